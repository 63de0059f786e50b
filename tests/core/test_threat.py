"""The ball and the box, exactly and not needlessly small; the noises; the check of a perturbation size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_inside, images
from torch import Tensor

from nuat.config import ThreatConfig
from nuat.core.eps import check_usual
from nuat.core.threat import L1, L2, NORMS, Linf, Norm, bernoulli, check_eps, check_radius, threat
from nuat.errors import InputError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
EPSILONS = [8 / 255, 4 / 255, 16 / 255, 0.3, 0.1, 1.0]

sizes = st.sampled_from(EPSILONS) | st.floats(1e-3, 1.0)
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 10_000)


def border_images(dtype: torch.dtype, eps: float, seed: int) -> Tensor:
    """Random pixels, borders, pixels about eps from a border, and the multiples of 1/255."""
    multiples = (torch.arange(256, dtype=torch.float64) / 255).view(1, 1, 16, 16)
    exact = torch.tensor([eps, 1.0 - eps], dtype=torch.float64).repeat(128).view(1, 1, 16, 16)
    return torch.cat([images(4, 1, 16, torch.float64, eps, seed), multiples, exact]).to(dtype)


@given(eps=sizes, dtype=dtypes, seed=seeds)
def test_bounds_lie_in_ball_and_box_exactly(eps: float, dtype: torch.dtype, seed: int) -> None:
    x = border_images(dtype, eps, seed)
    bounds = Linf(eps).bounds(x)
    assert_inside(bounds.lower, x, eps)
    assert_inside(bounds.upper, x, eps)
    assert bool((bounds.lower <= x).all())
    assert bool((x <= bounds.upper).all())


@given(eps=sizes, dtype=dtypes, seed=seeds)
def test_bounds_are_not_needlessly_small(eps: float, dtype: torch.dtype, seed: int) -> None:
    x = border_images(dtype, eps, seed)
    bounds = Linf(eps).bounds(x)
    ideal_lower, ideal_upper = (x.double() - eps).clamp(min=0.0), (x.double() + eps).clamp(max=1.0)
    unit_lower = torch.nextafter(bounds.lower, x + 1).double() - bounds.lower.double()
    unit_upper = bounds.upper.double() - torch.nextafter(bounds.upper, x - 1).double()
    assert bool((bounds.lower.double() - ideal_lower <= 2 * unit_lower).all())
    assert bool((ideal_upper - bounds.upper.double() <= 2 * unit_upper).all())


@given(eps=sizes, dtype=dtypes, seed=seeds)
def test_projection(eps: float, dtype: torch.dtype, seed: int) -> None:
    x = border_images(dtype, eps, seed)
    bounds = Linf(eps).bounds(x)
    wild = x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x_adv = bounds.project(wild)
    assert_inside(x_adv, x, eps)
    assert torch.equal(bounds.project(x_adv), x_adv)
    assert torch.equal(bounds.project(x), x)
    free = (wild >= bounds.lower) & (wild <= bounds.upper)
    assert torch.equal(x_adv[free], wild[free])
    assert torch.equal(x_adv[wild > bounds.upper], bounds.upper[wild > bounds.upper])
    assert torch.equal(x_adv[wild < bounds.lower], bounds.lower[wild < bounds.lower])


def pixel(x: Tensor, value: float | Tensor) -> Tensor:
    """Return two images, the second of them with another value in its last pixel."""
    x_adv = x.clone()
    x_adv[1, -1, -1, -1] = value
    return x_adv


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "radius"), [("Linf", 0.25), ("L2", 0.25), ("L1", 0.25)])
def test_holds_to_the_last_bit(norm: Norm, radius: float, dtype: torch.dtype) -> None:
    """A single pixel moved by the radius is in every ball; by one unit in the last place more, it is not."""
    ball = threat(norm, radius)
    wide = torch.full((), 2.0, dtype=dtype)
    for start, sign in ((0.0, 1), (1.0, -1)):  # from here even float64 takes the differences without a rounding
        x = torch.full((2, 3, 4, 5), start, dtype=dtype)
        edge = torch.full((), start + sign * radius, dtype=dtype)
        assert ball.holds(x, pixel(x, edge)).tolist() == [True, True]
        assert ball.holds(x, pixel(x, torch.nextafter(edge, sign * wide))).tolist() == [True, False]
    x = torch.full((2, 3, 4, 5), 0.5, dtype=dtype)
    for border, beyond in ((0.0, -wide), (1.0, wide)):
        at = torch.full((), border, dtype=dtype)
        corner = pixel(x, at)  # an image that lies on the border itself
        assert ball.holds(corner, corner).tolist() == [True, True]
        assert ball.holds(corner, pixel(x, torch.nextafter(at, beyond))).tolist() == [True, False]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("ball", [Linf(1.0), L2(100.0), L1(1000.0)])
def test_holds_no_image_that_is_not_finite(value: float, ball: Linf | L2 | L1) -> None:
    x = images(2)
    assert ball.holds(x, pixel(x, value)).tolist() == [True, False]
    assert ball.holds(x[:0], x[:0]).tolist() == []


def test_l2_and_l1_add_up_pixels_and_channels() -> None:
    """3, 4 and 5 sixteenths: a right triangle whose sides any dtype holds."""
    x = torch.full((1, 3, 4, 5), 0.5)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] += 3 / 16
    x_adv[0, 2, 3, 4] -= 4 / 16
    assert L2(5 / 16).holds(x, x_adv).tolist() == [True]
    assert L2(math.nextafter(5 / 16, 0.0)).holds(x, x_adv).tolist() == [False]
    assert L1(7 / 16).holds(x, x_adv).tolist() == [True]
    assert L1(math.nextafter(7 / 16, 0.0)).holds(x, x_adv).tolist() == [False]
    assert Linf(4 / 16).holds(x, x_adv).tolist() == [True]
    assert Linf(math.nextafter(4 / 16, 0.0)).holds(x, x_adv).tolist() == [False]


@given(eps=sizes, dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]), seed=seeds)
def test_linf_holds_its_bounds_and_nothing_past_them(eps: float, dtype: torch.dtype, seed: int) -> None:
    x = border_images(dtype, eps, seed)
    bounds, ball = Linf(eps).bounds(x), Linf(eps)
    generator = torch.Generator().manual_seed(seed)
    at = tuple(int(torch.randint(0, side, (), generator=generator)) for side in x.shape[1:])
    for edge, beyond in ((bounds.lower, -1.0), (bounds.upper, 2.0)):
        assert bool(ball.holds(x, edge).all())
        past = edge.clone()
        past[:, *at] = torch.nextafter(edge[:, *at], torch.full_like(edge[:, *at], beyond))
        assert not bool(ball.holds(x, past).any())


@given(eps=st.floats(1e-3, 3.0), dtype=dtypes, seed=seeds, norm=st.sampled_from(NORMS))
def test_holds_is_what_plain_arithmetic_says(eps: float, dtype: torch.dtype, seed: int, norm: Norm) -> None:
    """Image by image and pixel by pixel in Python's own floats; verdicts that hang on a rounding are left out."""
    ball = threat(norm, eps)
    x = images(5, 1, 3, dtype, 0.1, seed)
    generator = torch.Generator().manual_seed(seed)
    scale = eps * torch.tensor([0.1, 0.3, 0.5, 0.9, 1.5]).view(5, 1, 1, 1)
    x_adv = (x + scale * torch.randn(x.shape, generator=generator)).to(dtype)
    x_adv[::2] = x_adv[::2].clamp(0, 1)
    for held, before, after in zip(ball.holds(x, x_adv).tolist(), x.tolist(), x_adv.tolist(), strict=True):
        old, new = ([v for row in image[0] for v in row] for image in (before, after))
        moved = [abs(b - a) for a, b in zip(old, new, strict=True)]
        sizes = {"Linf": max(moved), "L2": math.sqrt(math.fsum(d * d for d in moved)), "L1": math.fsum(moved)}
        size = sizes[norm]
        if abs(size - eps) > 1e-12:
            assert held == (size <= eps and all(0 <= v <= 1 for v in new))


@given(
    eps=st.floats(1e-3, 30.0),
    dtype=dtypes,
    seed=seeds,
    norm=st.sampled_from(["L2", "L1"]),
    far=st.sampled_from([0.01, 0.3, 3.0]),
)
def test_projection_in_l2_and_l1(eps: float, dtype: torch.dtype, seed: int, norm: Norm, far: float) -> None:
    x = border_images(dtype, min(eps, 0.5), seed)
    bounds = threat(norm, eps).bounds(x)
    wild = x + far * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x_adv = bounds.project(wild)
    assert_inside(x_adv, x, eps, norm)
    assert torch.equal(bounds.project(x), x)
    if norm == "L1":
        assert torch.equal(bounds.project(x_adv), x_adv)
        boxed = wild.clamp(0.0, 1.0)
        near = threat(norm, eps).holds(x, boxed)
        assert torch.equal(x_adv[near], boxed[near])


@given(seed=seeds, eps=st.floats(0.05, 12.0), far=st.sampled_from([0.05, 0.5, 3.0]))
def test_the_l1_projection_is_the_nearest_point(seed: int, eps: float, far: float) -> None:
    """By bisection on the threshold, which falls out of the optimality conditions; border pixels included."""
    x = images(5, 1, 4, torch.float64, 0.1, seed)
    wild = x + far * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    for image, found in zip(range(5), L1(eps).bounds(x).project(wild), strict=True):
        delta = wild[image] - x[image]
        room = torch.where(delta > 0, 1 - x[image], x[image])

        def at(t: float, delta: Tensor = delta, room: Tensor = room) -> Tensor:
            return delta.sign() * torch.minimum((delta.abs() - t).clamp(min=0.0), room)

        low, high = 0.0, float(delta.abs().max())
        if float(at(0.0).abs().sum()) > eps:
            for _ in range(100):
                middle = (low + high) / 2
                low, high = (middle, high) if float(at(middle).abs().sum()) > eps else (low, middle)
        else:
            high = 0.0
        torch.testing.assert_close(found, x[image] + at(high), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("norm", "eps"), [("L2", 1.0), ("L1", 3.0)])
def test_rounding_in_l2_and_l1_costs_an_image_next_to_nothing(norm: Norm, eps: float, dtype: torch.dtype) -> None:
    x = images(64, 3, 8, dtype, 0.1, 1)
    if norm == "L2":  # away from the box, which its projection cuts
        x = 0.3 + 0.4 * x
    wild = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    x_adv = threat(norm, eps).bounds(x).project(wild)
    assert_inside(x_adv, x, eps, norm)
    sizes = torch.linalg.vector_norm((x_adv.double() - x.double()).flatten(1), 2 if norm == "L2" else 1, dim=1)
    assert float(sizes.min()) > eps * (1 - 1e-5)


def test_l2_and_l1_perturbations_are_moved_into_the_ball_alone() -> None:
    delta = 2.0 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    delta[0] *= 1e-3  # inside already
    for ball, order in ((L2(1.5), 2), (L1(6.0), 1), (Linf(0.3), torch.inf)):
        moved = ball.shrink(delta)
        sizes = torch.linalg.vector_norm(moved.flatten(1), order, dim=1)
        torch.testing.assert_close(sizes[1:], torch.full((3,), ball.eps), rtol=1e-5, atol=0.0)
        torch.testing.assert_close(moved[0], delta[0])
        assert bool((moved * delta >= 0).all())


def test_bounds_leave_the_images_alone_and_carry_no_graph() -> None:
    x = images(2)
    before = x.clone()
    Linf(0.1).bounds(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ascent_is_the_sign(dtype: torch.dtype) -> None:
    gradient = torch.tensor([-1e-6, 0.0, 2e3], dtype=dtype).view(1, 1, 1, 3)
    expected = torch.tensor([-0.25, 0.0, 0.25], dtype=dtype).view(1, 1, 1, 3)
    assert torch.equal(Linf(0.5).ascent(gradient, 0.25), expected)


def test_the_l1_step_takes_the_largest_components() -> None:
    gradient = torch.linspace(-1.0, 0.9, 100).view(1, 1, 10, 10)
    for alpha, count in ((4.0, 5), (0.8, 1), (1.6, 2), (0.1, 1)):  # of a radius of 4, which is spread over 5
        step = L1(4.0).ascent(gradient, alpha)
        assert int((step != 0).sum()) == count
        assert float(step.abs().sum()) == pytest.approx(alpha, rel=1e-6)
        assert bool((step * gradient >= 0).all())
        assert float(gradient.abs()[step != 0].min()) >= float(gradient.abs()[step == 0].max()) - 1e-6
    assert not L1(4.0).ascent(torch.zeros_like(gradient), 1.0).any()


def test_the_l1_step_passes_over_pixels_that_the_box_holds() -> None:
    gradient = torch.tensor([-3.0, 2.0, -1.5, 1.0]).view(1, 1, 2, 2)
    x = torch.tensor([0.0, 0.75, 0.5, 0.25]).view(1, 1, 2, 2)  # the first cannot fall, the second rises by 0.25
    step = L1(0.6).ascent(gradient, 0.6, x)
    torch.testing.assert_close(step.flatten(), torch.tensor([0.0, 0.25, -0.35, 0.0]))


@pytest.mark.parametrize(("ball", "order"), [(L2(0.7), 2), (L1(5.0), 1)])
def test_noises_of_l2_and_l1(ball: L2 | L1, order: int) -> None:
    x = torch.zeros(400, 1, 2, 2, dtype=torch.float64)

    def sizes(noise: Tensor) -> Tensor:
        return torch.linalg.vector_norm(noise.flatten(1), order, dim=1)

    far = ball.far(x, 0.3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sizes(far), torch.full((400,), 0.3, dtype=x.dtype))
    uniform = ball.uniform(x, torch.Generator().manual_seed(0))
    # in four dimensions the share of the volume within a radius is its fourth power
    share = (sizes(uniform) / ball.eps).sort().values ** 4
    assert float((share - torch.linspace(0, 1, 400, dtype=x.dtype)).abs().max()) < 0.08
    assert abs(float(uniform.sign().mean())) < 0.08


@pytest.mark.parametrize("alpha", [4 / 255, 0.15, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_plus_or_minus_alpha_in_balance(dtype: torch.dtype, alpha: float) -> None:
    x = torch.zeros(10, 4, 50, 50, dtype=dtype)
    noise = bernoulli(x, alpha, torch.Generator().manual_seed(0))
    assert noise.dtype == dtype
    magnitude = float(torch.tensor(alpha, dtype=dtype))
    assert noise.double().unique().tolist() == [-magnitude, magnitude]
    positive = (noise > 0).double()
    # 100,000 coins: five standard deviations are 0.008; of each pixel's ten, or each image's 10,000, more
    assert abs(float(positive.mean()) - 0.5) < 0.008
    assert bool(((positive.mean(dim=(1, 2, 3)) - 0.5).abs() < 0.025).all())
    neighbours = (positive[..., 1:] == positive[..., :-1]).double().mean()
    assert abs(float(neighbours) - 0.5) < 0.008


@pytest.mark.parametrize("eps", [8 / 255, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_fills_the_ball(dtype: torch.dtype, eps: float) -> None:
    x = torch.zeros(10, 4, 50, 50, dtype=dtype)
    noise = Linf(eps).uniform(x, torch.Generator().manual_seed(0))
    assert noise.dtype == dtype
    assert noise.shape == x.shape
    rounding = 1 + torch.finfo(dtype).eps
    assert float(noise.abs().max()) <= eps * rounding
    deciles = torch.histc(noise.double() / eps, 10, -1, 1) / noise.numel()
    assert bool(((deciles - 0.1).abs() < 0.005).all())


@pytest.mark.parametrize(
    "draw",
    [
        lambda x, g: bernoulli(x, 0.1, g),
        *((lambda x, g, ball=ball: ball.uniform(x, g)) for ball in (Linf(0.1), L2(0.1), L1(0.1))),
        *((lambda x, g, ball=ball: ball.far(x, 0.1, g)) for ball in (L2(0.1), L1(0.1))),
    ],
)
def test_noise_comes_from_the_generator_alone(draw) -> None:
    x = images(3)
    before = torch.get_rng_state()
    first, again, other = (draw(x, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    first = draw(x, None)
    torch.manual_seed(5)
    assert torch.equal(first, draw(x, None))


@pytest.mark.parametrize("value", [8 / 255, 1e-6, 0.3, 1.0])
def test_a_size_in_range_passes(value: float) -> None:
    check_eps("eps", value)


@pytest.mark.parametrize(("value", "meant"), [(8, "8/255"), (8.0, "8/255"), (2, "2/255"), (255, "255/255")])
def test_a_size_in_255ths_is_refused_with_what_was_meant(value: float, meant: str) -> None:
    with pytest.raises(InputError, match=f"threat.eps={value:g}: .*Did you mean {meant}\\?"):
        check_eps("threat.eps", value)


@pytest.mark.parametrize("value", [0.0, -0.1, 256.0, float("inf"), -float("inf"), float("nan")])
def test_a_size_without_meaning_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"^alpha=.*expected a perturbation size in \(0, 1\]") as caught:
        check_eps("alpha", value)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("value", [128 / 255, 0.5, 3, 16, 32, 40.5, 128, 1e6])
def test_l2_sizes_pass_up_to_those_that_hold_large_images(value: float) -> None:
    """A diagnosis attacks grey images of 32 x 32 pixels within 32, and others within multiples of their radius."""
    check_radius("threat.eps", value, "L2")


@pytest.mark.parametrize(
    ("eps", "norm", "of"),
    [
        (8 / 255, "L2", "Linf"),
        (0.06, "L2", "Linf"),
        (8 / 255, "L1", "Linf or L2"),
        (0.3, "L1", "Linf or L2"),
        (0.5, "L1", "Linf or L2"),
    ],
)
def test_a_radius_of_another_norm_is_refused(eps: float, norm: Norm, of: str) -> None:
    with pytest.raises(InputError, match=rf"threat.eps={eps:.4g}: a usual radius in {of}, but in {norm} it hardly"):
        check_usual("threat.eps", eps, norm)
    for fine, own in ((8 / 255, "Linf"), (0.5, "L2"), (128 / 255, "L2"), (12.0, "L1")):
        check_usual("threat.eps", fine, own)


def test_a_norm_that_nuat_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="norm='L7': expected one of Linf, L2"):
        ThreatConfig(norm="L7", eps=0.1)  # type: ignore[arg-type]
