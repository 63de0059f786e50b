"""Perturbation sets: the balls of Linf, L2 and L1, each with its random starts, ascent step and projection.

Pixels are in [0, 1]. Every projection returns an image inside the ball and the box to the last bit. The Linf ball is
intersected with the box once per batch, as elementwise bounds, so that its projection is one clamp.

Sizes may be scalars on the device: nothing here reads them on the host.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from nuat.core import l1
from nuat.core.random import Source, integers, normal, uniform
from nuat.errors import InputError


def check_eps(name: str, value: float | Tensor) -> None:
    """Refuse a perturbation size outside (0, 1], and suggest 8/255 where 8 is given.

    A scalar on the device passes: reading it would wait for the device, and the training loop made it of checked sizes.
    """
    if isinstance(value, Tensor):
        return
    if math.isfinite(value) and 1.0 < value <= 255.0:
        raise InputError(
            f"{name}={value:g}: pixels are in [0, 1], so this is larger than any image. Did you mean {value:g}/255?"
        )
    if not 0.0 < value <= 1.0:
        raise InputError(f"{name}={value:g}: expected a perturbation size in (0, 1], such as 8/255 or 0.3.")


def check_radius(name: str, value: float | Tensor, norm: "Norm") -> None:
    """Refuse a radius or step out of range: Linf as in ``check_eps``, L2 and L1 > 0.

    A radius that is larger than the images is refused where these are known (``nuat.evaluation.evaluate``).
    """
    if norm not in NORMS:
        raise InputError(f"norm={norm!r}: expected one of {', '.join(NORMS)}.")
    if norm == "Linf":
        check_eps(name, value)
    elif not isinstance(value, Tensor) and not (math.isfinite(value) and value > 0.0):
        example = "128/255 or 2" if norm == "L2" else "12"
        raise InputError(f"{name}={value:g}: expected an {norm} size > 0 in pixels of [0, 1], such as {example}.")


def largest_radius(norm: "Norm", dimensions: int) -> float:
    """Return the distance in a norm that no two images of so many pixels times channels exceed."""
    return {"Linf": 1.0, "L2": math.sqrt(dimensions), "L1": float(dimensions)}[norm]


Norm = Literal["Linf", "L2", "L1"]
NORMS: tuple[Norm, ...] = get_args(Norm)


class Region(Protocol):
    """Region in which the adversarial examples of a batch must lie."""

    def project(self, x: Tensor) -> Tensor:
        """Return images inside the region, [B, C, H, W]."""
        ...


class Threat(Protocol):
    """A set of perturbations, as attacks use it."""

    norm: ClassVar[Norm]

    @property
    def eps(self) -> float:
        """Radius of the ball."""
        ...

    def scaled(self, factor: float) -> Self:
        """Return the ball of ``factor`` times the radius."""
        ...

    def bounds(self, x: Tensor) -> Region:
        """Return the region of adversarial examples of ``x`` [B, C, H, W]."""
        ...

    def ascent(self, gradient: Tensor, alpha: float, x: Tensor | None = None) -> Tensor:
        """Return the steepest ascent step of size ``alpha``, [B, C, H, W].

        ``x`` are the images at which it begins: in L1 it then passes over pixels that the box holds. Linf and L2 have
        no use for them.
        """
        ...

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, like ``x``."""
        ...

    def far(self, x: Tensor, size: float, source: Source = None) -> Tensor:
        """Return noise of norm ``size``, like ``x``: in Linf a random corner, in L2 and L1 a random direction."""
        ...

    def shrink(self, delta: Tensor) -> Tensor:
        """Return perturbations [B, C, H, W] moved into the ball, without regard to the box and up to a rounding."""
        ...

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return, bool [B], whether each ``x_adv`` is an image in [0, 1] within the ball of its ``x``."""
        ...


@dataclass(frozen=True)
class Bounds:
    """The images within a ball around x and within the box: elementwise ``lower`` and ``upper``, each [B, C, H, W]."""

    lower: Tensor
    upper: Tensor

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest image inside the bounds, [B, C, H, W]."""
        return torch.minimum(torch.maximum(x, self.lower), self.upper)


@dataclass(frozen=True)
class _Ball:
    eps: float

    def scaled(self, factor: float) -> Self:
        """Return the ball of ``factor`` times the radius."""
        return replace(self, eps=self.eps * factor)


@dataclass(frozen=True)
class Linf(_Ball):
    """The ball of perturbations whose every component is at most ``eps`` in absolute value (section 2)."""

    norm: ClassVar[Norm] = "Linf"

    def bounds(self, x: Tensor) -> Bounds:
        """Return the bounds of adversarial examples for images ``x`` [B, C, H, W] in [0, 1], in the dtype of ``x``.

        x + eps rounded to the dtype can lie outside the ball by half a unit in the last place. Such bounds are moved
        inwards by one unit, so |x_adv - x| <= eps holds exactly (measured in float64 for narrower dtypes).
        """
        wide = x.double()
        # taken in float64: eps itself rounded to a narrow dtype is off by many units of a lower bound close to 0
        lower, upper = (wide - self.eps).clamp(min=0.0).to(x.dtype), (wide + self.eps).clamp(max=1.0).to(x.dtype)
        lower = torch.where(wide - lower.double() > self.eps, torch.nextafter(lower, x), lower)
        upper = torch.where(upper.double() - wide > self.eps, torch.nextafter(upper, x), upper)
        return Bounds(lower, upper)

    def ascent(self, gradient: Tensor, alpha: float, x: Tensor | None = None) -> Tensor:
        """Return the steepest ascent step of size ``alpha``: alpha * sign(gradient), [B, C, H, W]."""
        return alpha * gradient.sign()

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, of the shape, dtype and device of ``x``."""
        return (2.0 * uniform(x.shape, source, x) - 1.0) * self.eps

    def far(self, x: Tensor, size: float, source: Source = None) -> Tensor:
        """Return -size or +size with equal chance per pixel, like ``x``."""
        return bernoulli(x, size, source)

    def shrink(self, delta: Tensor) -> Tensor:
        """Return the nearest perturbations in the ball, [B, C, H, W]."""
        return delta.clamp(-self.eps, self.eps)

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return, bool [B], whether |x_adv - x| <= eps and 0 <= x_adv <= 1, exactly (measured in float64)."""
        near = (x_adv.double() - x.double()).abs() <= self.eps
        return (near & _in_box(x_adv)).flatten(1).all(dim=1)


@dataclass(frozen=True)
class L2Region:
    """The images within an L2 ball around ``x`` [B, C, H, W] and within the box."""

    x: Tensor
    eps: float

    def project(self, x: Tensor) -> Tensor:
        """Return images inside the ball and the box, [B, C, H, W]: shrunk towards the centre, then clamped.

        The centre is in the box, so clamping moves no pixel away from it. The result lies in both sets, but is not
        always the nearest point, which is clamp(centre + s * delta) of the largest s. That one makes attacks no
        stronger on digits, where most pixels are at an end of the box: PGD-100 left 142, 139 and 143 of 200 at eps 1.5
        (three seeds) with either. The norm, measured in float64, is at most eps to the last bit.
        """
        delta = x.double() - self.x.double()
        # the most that rounding every pixel to the dtype of the images can add
        rounding = math.sqrt(x[:1].numel()) * torch.finfo(x.dtype).eps / 2
        room = _larger(self.eps - rounding, self.eps / 2)
        inside = (self.x.double() + delta * (room / _l2(delta).clamp(min=room))).clamp(0.0, 1.0).to(x.dtype)
        outside = _l2(inside.double() - self.x.double()) > self.eps
        return torch.where(outside, self.x, inside)  # rounding alone exceeds a ball this small


@dataclass(frozen=True)
class L1Region:
    """The images within an L1 ball around ``x`` [B, C, H, W] and within the box."""

    x: Tensor
    eps: float

    def project(self, x: Tensor) -> Tensor:
        """Return the nearest images inside the ball and the box, [B, C, H, W].

        The norm, measured in float64, is at most eps to the last bit: every pixel is rounded towards the centre.
        """
        centre, boxed = self.x.double(), x.clamp(0.0, 1.0)
        delta = x.double() - centre
        # sums of float64 in another order, and roundings of its last bit, differ by less than this
        eps = _larger(self.eps * (1.0 - 1e-12) - 2e-16 * x[:1].numel(), self.eps / 2)
        room = torch.where(delta > 0, 1.0 - centre, centre)
        exact = (centre + l1.shortened(delta.flatten(1), room.flatten(1), eps).view_as(delta)).clamp(0.0, 1.0)
        near = exact.to(x.dtype)
        near = torch.where((near.double() - centre).abs() > (exact - centre).abs(), torch.nextafter(near, self.x), near)
        near = torch.where(_l1(boxed.double() - centre) <= self.eps, boxed, near)
        outside = _l1(near.double() - centre) > self.eps
        return torch.where(outside, self.x, near)  # rounding alone exceeds a ball this small


@dataclass(frozen=True)
class L2(_Ball):
    """The ball of perturbations whose Euclidean norm over an image's pixels and channels is at most ``eps``."""

    norm: ClassVar[Norm] = "L2"

    def bounds(self, x: Tensor) -> L2Region:
        """Return the region of adversarial examples of images ``x`` [B, C, H, W] in [0, 1]."""
        return L2Region(x, self.eps)

    def ascent(self, gradient: Tensor, alpha: float, x: Tensor | None = None) -> Tensor:
        """Return alpha * gradient / ||gradient||_2 per image, [B, C, H, W]; 0 where the gradient is 0."""
        # scaled first: squares of gradients below 1e-19 vanish in float32
        largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        scaled = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
        return alpha * scaled / _l2(scaled).clamp(min=1e-12).to(gradient.dtype)

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, of the shape, dtype and device of ``x``."""
        draw = normal(x.shape, source, x)
        radius = uniform((len(x), 1, 1, 1), source, x)
        return self.eps * radius ** (1.0 / x[0].numel()) * draw / _l2(draw).clamp(min=1e-12).to(x.dtype)

    def far(self, x: Tensor, size: float, source: Source = None) -> Tensor:
        """Return noise uniform on the sphere of radius ``size``, like ``x``."""
        draw = normal(x.shape, source, x)
        return size * draw / _l2(draw).clamp(min=1e-12).to(x.dtype)

    def shrink(self, delta: Tensor) -> Tensor:
        """Return the nearest perturbations in the ball, [B, C, H, W]."""
        return delta * (self.eps / _l2(delta).clamp(min=self.eps)).to(delta.dtype)

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return, bool [B], whether ||x_adv - x||_2 <= eps and 0 <= x_adv <= 1, exactly (measured in float64)."""
        near = _l2(x_adv.double() - x.double()) <= self.eps
        return (near & _in_box(x_adv)).flatten(1).all(dim=1)


@dataclass(frozen=True)
class L1(_Ball):
    """The ball of perturbations whose absolute values over an image's pixels and channels add up to at most ``eps``."""

    norm: ClassVar[Norm] = "L1"

    def bounds(self, x: Tensor) -> L1Region:
        """Return the region of adversarial examples of images ``x`` [B, C, H, W] in [0, 1]."""
        return L1Region(x, self.eps)

    def ascent(self, gradient: Tensor, alpha: float, x: Tensor | None = None) -> Tensor:
        """Return a sparse step of L1 size ``alpha``, [B, C, H, W].

        A step of eps is spread over a twentieth of the components, those with the largest gradients. A smaller step
        takes fewer, down to one, which is the steepest in L1.
        """
        return l1.sparse_step(gradient, alpha, self.eps / max(1.0, l1.SHARE * gradient[:1].numel()), x)

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, of the shape, dtype and device of ``x``."""
        draw = l1.laplace(x, source)
        more = l1.laplace(x[:, :1, :1, :1], source).abs()  # one more part of the whole, which is left out
        return self.eps * draw / (_l1(draw) + more)

    def far(self, x: Tensor, size: float, source: Source = None) -> Tensor:
        """Return noise of L1 norm ``size`` in a random direction, uniform on the faces of the ball, like ``x``."""
        draw = l1.laplace(x, source)
        return size * draw / _l1(draw)

    def shrink(self, delta: Tensor) -> Tensor:
        """Return the nearest perturbations in the ball, [B, C, H, W]."""
        flat = delta.flatten(1).double()
        return l1.shortened(flat, torch.full_like(flat, math.inf), self.eps).view_as(delta).to(delta.dtype)

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return, bool [B], whether ||x_adv - x||_1 <= eps and 0 <= x_adv <= 1, exactly (measured in float64)."""
        near = _l1(x_adv.double() - x.double()) <= self.eps
        return (near & _in_box(x_adv)).flatten(1).all(dim=1)


BALLS: dict[Norm, Callable[[float], Linf | L2 | L1]] = {"Linf": Linf, "L2": L2, "L1": L1}
"""Norm to its ball, a function of the radius."""


def threat(norm: Norm, eps: float) -> Linf | L2 | L1:
    """Return the ball of a norm."""
    return BALLS[norm](eps)


def _larger(a: Any, b: Any) -> Any:
    """Return the larger of two numbers, or of two scalars on the device."""
    return torch.maximum(a, b) if isinstance(a, Tensor) else max(a, b)


def _in_box(x: Tensor) -> Tensor:
    """Return, per pixel, whether it is in [0, 1]; NaN is not."""
    return (x >= 0.0) & (x <= 1.0)


def _l2(delta: Tensor) -> Tensor:
    """Return the Euclidean norm of each image, [B, 1, 1, 1]."""
    norm: Tensor = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
    return norm


def _l1(delta: Tensor) -> Tensor:
    """Return the sum of the absolute values of each image, [B, 1, 1, 1]."""
    return delta.abs().sum(dim=(1, 2, 3), keepdim=True)


def bernoulli(x: Tensor, alpha: float, source: Source = None) -> Tensor:
    """Return noise that is -alpha or +alpha with equal chance per pixel, like ``x`` [B, C, H, W].

    Source: Alg. 1, line 4, delta ~ Bern(-alpha, alpha).
    """
    coin = integers(2, x.shape, source, x.device, dtype=torch.int8)
    return (2.0 * alpha) * coin.to(x.dtype) - alpha
