"""The perturbation set: random starts, the ascent step, the projection.

Pixels are in [0, 1]. A ball is intersected with the box of valid images once per batch, as the elementwise bounds of
what an adversarial example may be; projecting is then one clamp, and the result is inside both to the last bit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.errors import InputError


def check_eps(name: str, value: float) -> None:
    """Refuse a perturbation size that is not in (0, 1], naming the likely meaning of one given in 1/255."""
    if math.isfinite(value) and 1.0 < value <= 255.0:
        raise InputError(
            f"{name}={value:g}: pixels are in [0, 1], so this is larger than any image. Did you mean {value:g}/255?"
        )
    if not 0.0 < value <= 1.0:
        raise InputError(f"{name}={value:g}: expected a perturbation size in (0, 1], such as 8/255 or 0.3.")


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

        x + eps rounded to the dtype can lie past the ball by half a unit in the last place; such bounds are moved
        inwards by one, so |x_adv - x| <= eps holds exactly (measured in float64 for narrower dtypes).
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

    def uniform(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return noise uniform in the ball, of the shape, dtype and device of ``x``."""
        draw = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (2.0 * draw - 1.0) * self.eps


def bernoulli(x: Tensor, alpha: float, generator: torch.Generator | None = None) -> Tensor:
    """Return noise that is -alpha or +alpha with equal chance per pixel, like ``x`` [B, C, H, W].

    Source: Alg. 1, line 4, delta ~ Bern(-alpha, alpha).
    """
    coin = torch.randint(0, 2, x.shape, generator=generator, device=x.device, dtype=torch.int8)
    return (2.0 * alpha) * coin.to(x.dtype) - alpha
