"""The nuclear norm: against a float64 decomposition, gradcheck, its degenerate inputs, its algebra."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nuat.core.nonfinite import Watch
from nuat.core.nuclear import nuclear_norm
from nuat.errors import InputError, NonFiniteError

SHAPES = [(128, 10), (10, 128), (64, 10), (128, 100), (1, 5), (5, 1), (1, 1)]
F32 = torch.finfo(torch.float32).eps


def orthogonal(n: int, k: int, seed: int) -> Tensor:
    draw = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(draw)[0]


def matrix(m: int, n: int, condition: float = 10.0, *, rank: int | None = None, seed: int = 0) -> Tensor:
    """Return a float64 matrix with singular values log-spaced from 1 to 1 / condition, the last ones zero."""
    k = min(m, n)
    s = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), k, dtype=torch.float64)
    s[k if rank is None else rank :] = 0.0
    return (orthogonal(m, k, seed) * s) @ orthogonal(n, k, seed + 1).mT


def value_and_gradient(a: Tensor, norm=nuclear_norm) -> tuple[Tensor, Tensor]:
    a = a.detach().requires_grad_()
    value = norm(a)
    (gradient,) = torch.autograd.grad(value, a)
    return value.detach(), gradient


def truth(a: Tensor, tolerance: float = 1e-12) -> tuple[Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(a.double(), full_matrices=False)
    kept = s > tolerance * s[0]
    return s.sum(), u[:, kept] @ vh[kept]


def errors(a: Tensor, norm=nuclear_norm) -> tuple[float, float]:
    """Relative errors of the value, and of the gradient in the Frobenius norm, against float64."""
    value, gradient = value_and_gradient(a, norm)
    true_value, polar = truth(a)
    return (
        float((value.double() - true_value).abs() / true_value),
        float((gradient.double() - polar).norm() / polar.norm()),
    )


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_subgradient_in_float32(shape: tuple[int, int], condition: float) -> None:
    a = matrix(*shape, condition).float()
    value_error, gradient_error = errors(a)
    assert value_error <= 1e-4
    assert gradient_error <= 1e-4
    # no worse than torch's own float32 nuclear norm, with an allowance of a few roundings of the result
    torch_value_error, torch_gradient_error = errors(a, lambda z: torch.linalg.matrix_norm(z, ord="nuc"))
    assert value_error <= torch_value_error + 2 * F32
    assert gradient_error <= torch_gradient_error + 2 * F32


def test_value_and_subgradient_of_a_thousand_classes() -> None:
    value_error, gradient_error = errors(matrix(256, 1000, 1e3).float())
    assert value_error <= 1e-4
    assert gradient_error <= 1e-4


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_accuracy_does_not_depend_on_the_scale(scale: float) -> None:
    value_error, gradient_error = errors((scale * matrix(16, 5, 100.0)).float())
    assert value_error <= 1e-5
    assert gradient_error <= 1e-5


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4), (1, 3), (3, 1), (1, 1)])
def test_gradcheck_on_full_rank(shape: tuple[int, int]) -> None:
    a = matrix(*shape, 5.0).requires_grad_()
    assert torch.autograd.gradcheck(nuclear_norm, (a,))
    value_error, gradient_error = errors(a.detach())
    assert value_error <= 1e-13
    assert gradient_error <= 1e-12


def test_float64_keeps_singular_values_that_float32_would_lose() -> None:
    a = matrix(8, 5, 1e10)
    assert errors(a)[1] <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (1, 1)])
def test_zero_at_zero(shape: tuple[int, int], dtype: torch.dtype) -> None:
    value, gradient = value_and_gradient(torch.zeros(shape, dtype=dtype))
    assert value == 0.0
    assert torch.equal(gradient, torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "rank"), [((12, 4), 1), ((12, 4), 3), ((4, 12), 2), ((5, 5), 4), ((64, 10), 1)])
def test_rank_deficient(shape: tuple[int, int], rank: int, dtype: torch.dtype) -> None:
    a = matrix(*shape, 10.0, rank=rank).to(dtype)
    value, gradient = value_and_gradient(a)
    true_value, polar = truth(a, 1e-5)
    assert torch.linalg.matrix_rank(polar, atol=0.5) == rank
    close = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(value.double(), true_value, rtol=close, atol=0)
    torch.testing.assert_close(gradient.double(), polar, rtol=0, atol=close)


def test_a_row_of_zeros_gets_no_gradient() -> None:
    a = matrix(6, 3).float()
    a[2] = 0.0
    assert float(value_and_gradient(a)[1][2].abs().max()) == 0.0


def test_the_gradient_is_scaled_by_what_comes_from_above() -> None:
    a = matrix(6, 3).float()
    once, tenth = value_and_gradient(a)[1], value_and_gradient(a, lambda z: 0.1 * nuclear_norm(z))[1]
    torch.testing.assert_close(tenth, 0.1 * once)


sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)


def drawn(m: int, n: int, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(m=sizes, n=sizes, seed=seeds)
def test_orthogonal_invariance(m: int, n: int, seed: int) -> None:
    a, left, right = drawn(m, n, seed), orthogonal(m, m, seed + 1), orthogonal(n, n, seed + 2)
    value, gradient = value_and_gradient(a)
    turned_value, turned_gradient = value_and_gradient(left @ a @ right)
    torch.testing.assert_close(turned_value, value)
    torch.testing.assert_close(turned_gradient, left @ gradient @ right, rtol=1e-6, atol=1e-8)


@given(m=sizes, n=sizes, seed=seeds)
def test_triangle_inequality_and_subgradient(m: int, n: int, seed: int) -> None:
    a, b = drawn(m, n, seed), drawn(m, n, seed + 1)
    value, gradient = value_and_gradient(a)
    assert nuclear_norm(a + b) <= value + nuclear_norm(b) + 1e-12
    # of a convex function every tangent lies below it
    assert nuclear_norm(b) >= value + (gradient * (b - a)).sum() - 1e-12


@given(m=sizes, n=sizes, seed=seeds, scale=st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3))
def test_scale(m: int, n: int, seed: int, scale: float) -> None:
    a = drawn(m, n, seed)
    value, gradient = value_and_gradient(a)
    scaled_value, scaled_gradient = value_and_gradient(scale * a)
    torch.testing.assert_close(scaled_value, abs(scale) * value)
    torch.testing.assert_close(scaled_gradient, gradient if scale > 0 else -gradient, rtol=1e-6, atol=1e-8)


@given(m=sizes, n=sizes, seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_transposition(m: int, n: int, seed: int, dtype: torch.dtype) -> None:
    a = drawn(m, n, seed).to(dtype)
    value, gradient = value_and_gradient(a)
    value_t, gradient_t = value_and_gradient(a.mT.contiguous())
    torch.testing.assert_close(value_t, value)
    torch.testing.assert_close(gradient_t.mT, gradient, rtol=1e-4, atol=1e-4)


@given(m=sizes, n=sizes, rank=sizes, seed=seeds)
def test_between_frobenius_and_root_rank_times_it(m: int, n: int, rank: int, seed: int) -> None:
    rank = min(m, n, rank)
    a = drawn(m, rank, seed) @ drawn(rank, n, seed + 1)
    value, frobenius = float(nuclear_norm(a)), float(a.norm())
    assert frobenius * (1 - 1e-12) <= value <= rank**0.5 * frobenius * (1 + 1e-12)


def test_float32_inside_autocast() -> None:
    a = matrix(64, 10, 1e3).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a.mT).dtype == torch.bfloat16  # autocast is on
        value = nuclear_norm(a)
        value_error, gradient_error = errors(a)
    assert value.dtype == torch.float32
    assert value_error <= 1e-4
    assert gradient_error <= 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_input_gives_a_float32_value_and_a_narrow_gradient(dtype: torch.dtype) -> None:
    a = matrix(16, 5).to(dtype)
    value, gradient = value_and_gradient(a)
    true_value, polar = truth(a, 1e-4)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value.double(), true_value, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), polar, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_is_refused(bad: float, dtype: torch.dtype) -> None:
    a = torch.ones(3, 2, dtype=dtype)
    a[1, 1] = bad
    with pytest.raises(NonFiniteError, match="diverged"):
        nuclear_norm(a)
    watch = Watch()
    with watch.entered():
        assert torch.isnan(nuclear_norm(a))
    assert bool(watch.bad)


@pytest.mark.parametrize(
    "a",
    [
        torch.zeros(3),
        torch.zeros(2, 3, 4),
        torch.zeros(0, 3),
        torch.zeros(3, 0),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.zeros(2, 2, dtype=torch.complex64),
    ],
)
def test_what_is_no_matrix_is_refused(a: Tensor) -> None:
    with pytest.raises(InputError, match=r"non-empty floating-point matrix") as caught:
        nuclear_norm(a)
    assert not isinstance(caught.value, NonFiniteError)
    assert str(list(a.shape)) in str(caught.value)


def test_a_second_derivative_is_refused_and_not_silently_short_of_a_term() -> None:
    w = torch.ones(3, requires_grad=True)
    a = (matrix(4, 3) * w).tanh()
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(nuclear_norm(a), w, create_graph=True)
    torch.autograd.grad(nuclear_norm(a), w)  # once is fine
