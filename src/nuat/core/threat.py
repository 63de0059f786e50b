"""The perturbation set: random starts, the ascent step, the projection.

Pixels are in [0, 1]. The Linf ball is intersected with the box of valid images once per batch, as elementwise bounds of
an adversarial example. Projecting is then one clamp, and the result lies inside both to the last bit.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

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
    """Refuse a radius or step out of range: Linf as in ``check_eps``, L2 > 0.

    An L2 radius that is larger than the images is refused where these are known (``nuat.evaluation.evaluate``).
    """
    if norm not in get_args(Norm):
        raise InputError(f"norm={norm!r}: expected one of {', '.join(get_args(Norm))}.")
    if norm == "Linf":
        check_eps(name, value)
    elif not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{name}={value:g}: expected an L2 size > 0 in pixels of [0, 1], such as 128/255 or 2.")


Norm = Literal["Linf", "L2"]


class Region(Protocol):
    """Region in which the adversarial examples of a batch must lie."""

    def project(self, x: Tensor) -> Tensor:
        """Return images inside the region, [B, C, H, W]."""
        ...


class Threat(Protocol):
    """A set of perturbations, as attacks use it."""

    @property
    def eps(self) -> float:
        """Radius of the ball."""
        ...

    def bounds(self, x: Tensor) -> Region:
        """Return the region of adversarial examples of ``x`` [B, C, H, W]."""
        ...

    def ascent(self, gradient: Tensor, alpha: float) -> Tensor:
        """Return the steepest ascent step of size ``alpha``, [B, C, H, W]."""
        ...

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, like ``x``."""
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
class Linf:
    """The ball of perturbations whose every component is at most ``eps`` in absolute value (section 2)."""

    eps: float

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

    def ascent(self, gradient: Tensor, alpha: float) -> Tensor:
        """Return the steepest ascent step of size ``alpha``: alpha * sign(gradient), [B, C, H, W]."""
        return alpha * gradient.sign()

    def uniform(self, x: Tensor, source: Source = None) -> Tensor:
        """Return noise uniform in the ball, of the shape, dtype and device of ``x``."""
        return (2.0 * uniform(x.shape, source, x) - 1.0) * self.eps

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
        always the nearest point. The norm, measured in float64, is at most eps to the last bit.
        """
        delta = x.double() - self.x.double()
        norm = _l2(delta)
        # the most that rounding every pixel to the dtype of the images can add
        room = max(self.eps - math.sqrt(x[0].numel()) * torch.finfo(x.dtype).eps / 2, self.eps / 2)
        inside = (self.x.double() + delta * (room / norm.clamp(min=room))).clamp(0.0, 1.0).to(x.dtype)
        outside = _l2(inside.double() - self.x.double()) > self.eps
        return torch.where(outside, self.x, inside)  # rounding alone exceeds a ball this small


@dataclass(frozen=True)
class L2:
    """The ball of perturbations whose Euclidean norm over an image's pixels and channels is at most ``eps``."""

    eps: float

    def bounds(self, x: Tensor) -> L2Region:
        """Return the region of adversarial examples of images ``x`` [B, C, H, W] in [0, 1]."""
        return L2Region(x, self.eps)

    def ascent(self, gradient: Tensor, alpha: float) -> Tensor:
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

    def holds(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return, bool [B], whether ||x_adv - x||_2 <= eps and 0 <= x_adv <= 1, exactly (measured in float64)."""
        near = _l2(x_adv.double() - x.double()) <= self.eps
        return (near & _in_box(x_adv)).flatten(1).all(dim=1)


def threat(norm: Norm, eps: float) -> Linf | L2:
    """Return the ball of a norm."""
    return Linf(eps) if norm == "Linf" else L2(eps)


def _in_box(x: Tensor) -> Tensor:
    """Return, per pixel, whether it is in [0, 1]; NaN is not."""
    return (x >= 0.0) & (x <= 1.0)


def _l2(delta: Tensor) -> Tensor:
    """Return the Euclidean norm of each image, [B, 1, 1, 1]."""
    norm: Tensor = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
    return norm


def bernoulli(x: Tensor, alpha: float, source: Source = None) -> Tensor:
    """Return noise that is -alpha or +alpha with equal chance per pixel, like ``x`` [B, C, H, W].

    Source: Alg. 1, line 4, delta ~ Bern(-alpha, alpha).
    """
    coin = integers(2, x.shape, source, x.device, dtype=torch.int8)
    return (2.0 * alpha) * coin.to(x.dtype) - alpha
