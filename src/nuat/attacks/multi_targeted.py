"""MultiTargeted PGD: one run of PGD towards each wrong class (Gowal et al. 2019)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.attacks.targeted import TowardsClasses, wrong_classes
from nuat.attacks.worst_case import keep_worst
from nuat.core.losses import wide
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MultiTargetedPGD(TowardsClasses):
    """One run of PGD on z_t - z_y for each wrong class t, the most likely on the clean image first.

    Each run attacks the images that the runs before it did not break. An image keeps the first example that fools the
    model, or else the one with the highest logit margin max_t z_t - z_y.

    Example:
        >>> import torch
        >>> from nuat.attacks import MultiTargetedPGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = MultiTargetedPGD(model, eps=8/255)(x, y)
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
            def towards(left: Tensor) -> Tensor:
                attack = self.pgd(lambda logits, true: difference_sum(logits, ranked[left, rank], true))
                return attack.perturb(x[left], y[left])

            return towards

        return keep_worst(self.model, x, y, (run(rank) for rank in range(ranked.shape[1])))


def difference_sum(logits: Tensor, target: Tensor, y: Tensor) -> Tensor:
    """Return the sum over images of z_target - z_y, scalar; ``logits`` [B, N], ``target`` and ``y`` int64 [B]."""
    return (wide(logits).gather(1, target[:, None]) - wide(logits).gather(1, y[:, None])).sum()
