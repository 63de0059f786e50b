"""Random noise: the worst of many uniform draws. A model that noise breaks where PGD does not masks its gradients."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nuat.attacks.base import Attack
from nuat.attacks.worst_case import severity, standing
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RandomNoise(Attack):
    """The worst of ``draws`` images, drawn uniformly from the ball and projected into the box. It needs no gradient.

    An image keeps the first draw that fools the model, after which it is not attacked again, or else, of its draws and
    itself, the one with the highest logit margin.

    Example:
        >>> import torch
        >>> from nuat.attacks import RandomNoise
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = RandomNoise(model, eps=8/255, draws=100)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    draws: int = 10_000
    """Draws per image, >= 1."""
    batch_size: int = 250
    """Images of a forward pass, >= 1. The fewer images still stand, the more draws of each are tried at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("draws", self.draws), ("batch_size", self.batch_size)):
            if value < 1:
                raise InputError(f"{name}={value}: expected at least 1.")

    @torch.no_grad()
    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the worst draw of each image, [B, C, H, W]."""
        x_adv, worst = x.clone(), severity(self.model(x), y)
        drawn = 0
        while drawn < self.draws and len(left := standing(worst)) > 0:
            count = min(max(1, self.batch_size // len(left)), self.draws - drawn)
            drawn += count
            centre, label = x[left].repeat_interleave(count, dim=0), y[left].repeat_interleave(count)
            noisy = self.threat.bounds(centre).project(centre + self.threat.uniform(centre, self.generator))
            parts = zip(torch.split(noisy, self.batch_size), torch.split(label, self.batch_size), strict=True)
            found = torch.cat([severity(self.model(z), t) for z, t in parts])
            best = found.view(-1, count).argmax(dim=1) + count * torch.arange(len(left), device=x.device)
            better = found[best] > worst[left]  # argmax is the first of equals: the first draw that fools
            x_adv[left[better]], worst[left[better]] = noisy[best[better]], found[best[better]]
        return x_adv
