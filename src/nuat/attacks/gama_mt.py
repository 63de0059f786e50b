"""GAMA-MT: the guided maximum-margin attack towards each wrong class in turn (Sriramanan et al. 2020)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.attacks.gama import GAMAPGD
from nuat.attacks.targeted import wrong_classes
from nuat.attacks.worst_case import keep_worst
from nuat.core.losses import wide
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GAMAMT(GAMAPGD):
    """A run of GAMA-PGD for each wrong class t, on the margin p_t - p_y of the softmax outputs p.

    The classes are tried from the most likely on the clean image to the least likely, each run on the images that the
    runs before it did not break. An image keeps the first example that fools the model, or else the one with the
    highest logit margin. The authors' public scripts lack this variant: steps, step sizes and weight are those of
    GAMA-PGD; the number and order of the classes, and what is kept, are our choices.

    Example:
        >>> import torch
        >>> from nuat.attacks import GAMAMT
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = GAMAMT(model, eps=8/255, steps=20)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    targets: int | None = None
    """Number of the most likely wrong classes to try, >= 1. None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets is not None and self.targets < 1:
            raise InputError(f"targets={self.targets}: expected at least 1.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the worst example found of each image, [B, C, H, W]."""
        with torch.no_grad():
            ranked = wrong_classes(self.model(x), y, self.targets)

        def run(rank: int) -> Callable[[Tensor], Tensor]:
            return lambda left: self.climb(x[left], lambda logits: margin(logits, ranked[left, rank], y[left]))

        return keep_worst(self.model, x, y, (run(rank) for rank in range(ranked.shape[1])))


def margin(logits: Tensor, target: Tensor, y: Tensor) -> Tensor:
    """Return p_target - p_y per image [B], of the softmax of ``logits`` [B, N]; ``target`` and ``y`` int64 [B]."""
    probabilities = wide(logits).softmax(dim=1)
    return (probabilities.gather(1, target[:, None]) - probabilities.gather(1, y[:, None])).squeeze(1)
