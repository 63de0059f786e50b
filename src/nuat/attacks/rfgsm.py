"""R-FGSM: a random sign step, then FGSM with the rest of the ball (Tramer et al. 2018)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nuat.attacks.base import Attack, input_gradient
from nuat.core.losses import cross_entropy_sum
from nuat.core.threat import NORMS, Norm


@dataclass(frozen=True, kw_only=True)
class RFGSM(Attack):
    """x' = x +- eps/2 per pixel at random; x_adv = x' + eps/2 * sign(grad CE(f(x'), y)), in the ball and the box.

    In L2 and L1 the start is eps/2 away in a random direction, and the step is the steepest of that norm.

    Example:
        >>> import torch
        >>> from nuat.attacks import RFGSM
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = RFGSM(model, eps=8/255)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the R-FGSM examples [B, C, H, W]."""
        bounds = self.threat.bounds(x)
        start = bounds.project(x + self.threat.far(x, self.eps / 2, self.generator))
        gradient = input_gradient(lambda z: cross_entropy_sum(self.model(z), y), start)
        return bounds.project(start + self.threat.ascent(gradient, self.eps / 2, start))
