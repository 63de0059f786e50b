"""How the nuclear norm is taken on each kind of device: every method meets the same bars on the CPU."""

import math
from typing import Any

import pytest
import torch
from core.test_nuclear import errors, matrix, truth, value_and_gradient
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nuat.core import nuclear
from nuat.core.nuclear import nuclear_norm
from nuat.errors import NonFiniteError

SHAPES = [(128, 10), (10, 128), (128, 100), (10, 10), (1, 100), (100, 1), (1, 1), (64, 1000), (1000, 64), (130, 200)]


@pytest.fixture(params=[nuclear._by_eigh, nuclear._by_iteration], ids=["eigh", "iteration"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nuclear.Method:
    """Make ``nuclear_norm`` use this method whatever the device."""
    monkeypatch.setattr(nuclear, "_method", lambda device, dtype: request.param)
    return request.param


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = nuclear._method
    monkeypatch.setattr(nuclear, "_method", lambda device, dtype: chosen("cuda", dtype))


def test_the_method_of_a_device() -> None:
    assert nuclear._method("cpu", torch.float32) is nuclear._by_eigh
    assert nuclear._method("cuda", torch.float32) is nuclear._by_iteration
    assert {nuclear._method(device, torch.float64) for device in ("cpu", "cuda")} == {nuclear._by_svd}


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_worse_than_the_decomposition_in_float32(shape: tuple[int, int], condition: float) -> None:
    a = matrix(*shape, condition).float()
    value_error, gradient_error = errors(a)
    torch_value_error, torch_gradient_error = errors(a, lambda z: torch.linalg.matrix_norm(z, ord="nuc"))
    few_roundings = 8 * torch.finfo(torch.float32).eps
    assert value_error <= min(1e-4, torch_value_error + few_roundings)
    assert gradient_error <= min(1e-4, torch_gradient_error + few_roundings)


@pytest.mark.usefixtures("method")
def test_a_thousand_classes() -> None:
    assert max(errors(matrix(256, 1000, 1e3).float())) <= 1e-4


@pytest.mark.usefixtures("method")
def test_one_small_singular_value_among_equal_ones() -> None:
    """The bound of the largest is loosest there."""
    s = torch.ones(256, dtype=torch.float64)
    s[-1] = 1e-3
    u, _, vh = torch.linalg.svd(matrix(256, 300, 1.0), full_matrices=False)
    value, gradient = value_and_gradient(((u * s) @ vh).float())
    assert float(value) == pytest.approx(255.001, rel=1e-6)
    assert float(u[:, -1] @ gradient.double() @ vh[-1]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-12, 1e12, 1e30, 1e37])
@pytest.mark.parametrize("shape", [(16, 5), (40, 1000)])
def test_scale(shape: tuple[int, int], scale: float) -> None:
    assert max(errors((scale * matrix(*shape, 10.0)).float(), nuclear_norm)) <= 1e-5


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize(
    ("shape", "rank"),
    [((12, 4), 1), ((12, 4), 3), ((4, 12), 2), ((5, 5), 4), ((64, 10), 1), ((128, 100), 50), ((40, 1000), 7)],
)
def test_directions_of_rounding_level_get_no_gradient(shape: tuple[int, int], rank: int) -> None:
    a = matrix(*shape, 10.0, rank=rank).float()
    value, gradient = value_and_gradient(a)
    true_value, polar = truth(a, 1e-5)
    assert torch.linalg.matrix_rank(polar, atol=0.5) == rank
    torch.testing.assert_close(value.double(), true_value, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), polar, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("smallest", [1e-7, 1e-6, 1e-5, 1e-4, 3e-4])
def test_between_rounding_and_resolved_the_gradient_is_that_of_a_norm(smallest: float) -> None:
    """A direction gets a part of its gradient, never more than all of it, and no other is disturbed."""
    s = torch.tensor([1.0, 0.5, smallest], dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix(30, 3), full_matrices=False)
    _, gradient = value_and_gradient(((u * s) @ vh).float())
    core = u.mT @ gradient.double() @ vh.mT
    torch.testing.assert_close(core[:2, :2], torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-5)
    assert float(torch.linalg.matrix_norm(gradient, ord=2)) <= 1 + 1e-5


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (1, 1), (40, 1000)])
def test_zero_at_zero(shape: tuple[int, int]) -> None:
    value, gradient = value_and_gradient(torch.zeros(shape))
    assert value == 0.0
    assert torch.equal(gradient, torch.zeros(shape))


@pytest.mark.usefixtures("method")
def test_a_row_of_zeros_gets_no_gradient() -> None:
    a = matrix(6, 3).float()
    a[2] = 0.0
    assert float(value_and_gradient(a)[1][2].abs().max()) == 0.0


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("shape", [(64, 10), (40, 1000)])
def test_not_narrowed_by_autocast(shape: tuple[int, int]) -> None:
    a = matrix(*shape, 1e3).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a.mT).dtype == torch.bfloat16  # autocast is on
        assert max(errors(a)) <= 1e-4


class WaitingError(AssertionError):
    pass


class NoWaiting(TorchDispatchMode):
    """Fails on what makes a GPU's host wait for a value."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        # torch's own decompositions wait on a GPU, too: their drivers report convergence to the host
        if name in (
            "_local_scalar_dense",
            "is_nonzero",
            "nonzero",
            "equal",
            "index",
            "masked_select",
        ) or name.startswith("_linalg_"):
            raise WaitingError(name)
        return func(*args, **(kwargs or {}))


def test_what_waits_is_noticed() -> None:
    a = matrix(6, 3).float()
    with NoWaiting(), pytest.raises(WaitingError):
        nuclear_norm(a)  # on the CPU it may
    for waits in (lambda: bool(a.sum() > 0), lambda: a[a > 0], lambda: torch.linalg.eigh(a.mT @ a)):
        with NoWaiting(), pytest.raises(WaitingError):
            waits()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(128, 10), (10, 128), (40, 1000)])
def test_on_a_gpu_nothing_waits(shape: tuple[int, int], dtype: torch.dtype) -> None:
    a = matrix(*shape).to(dtype).requires_grad_()
    with NoWaiting():
        value = nuclear_norm(a)
        (gradient,) = torch.autograd.grad(value, a)
    assert value.item() == pytest.approx(truth(a.detach())[0].item(), rel=1e-5)
    assert gradient.dtype == dtype


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (1, 4), (1, 1)])
def test_on_a_gpu_what_is_not_finite_gives_nan(shape: tuple[int, int], bad: float) -> None:
    a = matrix(*shape).float()
    a[-1, -1] = bad
    a.requires_grad_()
    with NoWaiting():
        value = nuclear_norm(a)
        (gradient,) = torch.autograd.grad(value, a)
    assert bool(value.isnan())
    assert bool(gradient.isnan().all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (17, 2), (299, 149)])
def test_on_a_cpu_a_single_bad_entry_is_refused_wherever_it_is(bad: float, place: tuple[int, int]) -> None:
    a: Tensor = matrix(300, 150).float()
    a[place] = bad
    with pytest.raises(NonFiniteError, match="diverged"):
        nuclear_norm(a)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_a_second_derivative_is_refused() -> None:
    a = matrix(4, 3).float().requires_grad_()
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(nuclear_norm(a), a, create_graph=True)
