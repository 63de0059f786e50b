"""FGSM: one step along the sign of the gradient (Goodfellow et al. 2015)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.core.losses import cross_entropy_sum
from nuat.core.threat import NORMS, Norm


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """x_adv = x + eps * sign(grad_x CE(f(x), y)), in the box; in L2 and L1 the steepest step of that norm.

    Example:
        >>> import torch
        >>> from nuat.attacks import FGSM
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = FGSM(model, eps=8/255)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the FGSM examples [B, C, H, W]."""
        gradient = input_gradient(lambda z: cross_entropy_sum(self.model(z), y), x)
        return self.threat.bounds(x).project(x + self.threat.ascent(gradient, self.eps, x))
