"""The ball and the box, exactly and not needlessly small; the noises; the check of a perturbation size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_inside, images
from torch import Tensor

from nuat.config import ThreatConfig
from nuat.core.threat import L2, Linf, Norm, bernoulli, check_eps, check_radius, threat
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
@pytest.mark.parametrize(("norm", "radius"), [("Linf", 0.25), ("L2", 0.25)])
def test_holds_to_the_last_bit(norm: Norm, radius: float, dtype: torch.dtype) -> None:
    """A single pixel moved by the radius is in either ball; by one unit in the last place more, it is not."""
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
@pytest.mark.parametrize("ball", [Linf(1.0), L2(100.0)])
def test_holds_no_image_that_is_not_finite(value: float, ball: Linf | L2) -> None:
    x = images(2)
    assert ball.holds(x, pixel(x, value)).tolist() == [True, False]
    assert ball.holds(x[:0], x[:0]).tolist() == []


def test_l2_adds_up_pixels_and_channels() -> None:
    """3, 4 and 5 sixteenths: a right triangle whose sides any dtype holds."""
    x = torch.full((1, 3, 4, 5), 0.5)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] += 3 / 16
    x_adv[0, 2, 3, 4] -= 4 / 16
    assert L2(5 / 16).holds(x, x_adv).tolist() == [True]
    assert L2(math.nextafter(5 / 16, 0.0)).holds(x, x_adv).tolist() == [False]
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


@given(eps=st.floats(1e-3, 3.0), dtype=dtypes, seed=seeds, norm=st.sampled_from(["Linf", "L2"]))
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
        size = max(moved) if norm == "Linf" else math.sqrt(math.fsum(d * d for d in moved))
        if abs(size - eps) > 1e-12:
            assert held == (size <= eps and all(0 <= v <= 1 for v in new))


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


@pytest.mark.parametrize("draw", [lambda x, g: bernoulli(x, 0.1, g), lambda x, g: Linf(0.1).uniform(x, g)])
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


def test_a_norm_that_nuat_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="norm='L7': expected one of Linf, L2"):
        ThreatConfig(norm="L7", eps=0.1)  # type: ignore[arg-type]
