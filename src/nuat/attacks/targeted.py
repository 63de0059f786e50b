"""Targeted PGD: towards a wrong class instead of away from the true one (Kurakin et al. 2017)."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nuat.attacks.base import Attack
from nuat.attacks.pgd import PGD, STEPS
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.random import shared
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError

Target = Literal["least-likely", "random"]


def wrong_classes(logits: Tensor, y: Tensor, count: int | None = None) -> Tensor:
    """Return, per image, the ``count`` most likely classes other than ``y`` [B], most likely first.

    Args:
        logits: [B, N], of the clean images.
        y: labels, int64 [B].
        count: 1 to N - 1. None: all of them.

    Returns:
        int64 [B, count].

    Raises:
        InputError: fewer than two classes, or more wrong classes asked for than there are.
    """
    others = logits.shape[1] - 1
    if others < 1:
        raise InputError("a targeted attack needs a model of at least 2 classes; this one has 1.")
    if count is not None and count > others:
        raise InputError(f"targets={count}: a model of {others + 1} classes has {others} wrong ones.")
    ranked = wide(logits).scatter(1, y[:, None], float("-inf")).argsort(dim=1, descending=True, stable=True)
    return ranked[:, : others if count is None else count]


@dataclass(frozen=True, kw_only=True)
class TowardsClasses(Attack):
    """Base of targeted and multi-targeted PGD: the settings of the PGD that they run."""

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    alpha: float | None = None
    """Step size, in the units of eps. None: that of PGD, 2.5 * eps / steps."""
    steps: int = STEPS
    """Steps of a run, >= 1."""
    random_start: bool = True
    """Start at uniform noise in the ball instead of at the image."""

    def __post_init__(self) -> None:
        self.pgd(cross_entropy_sum)  # refuses what PGD refuses

    def pgd(self, objective: Callable[[Tensor, Tensor], Tensor]) -> PGD:
        """Return the PGD that maximises ``objective``, of logits [b, N] and classes [b], with these settings."""
        return PGD(
            self.model,
            eps=self.eps,
            norm=self.norm,
            generator=self.generator,
            alpha=self.alpha,
            steps=self.steps,
            random_start=self.random_start,
            objective=objective,
        )


@dataclass(frozen=True, kw_only=True)
class TargetedPGD(TowardsClasses):
    """PGD that lowers the cross-entropy of a wrong class t: x_adv <- project(x_adv - alpha * sign(grad CE(f, t))).

    Example:
        >>> import torch
        >>> from nuat.attacks import TargetedPGD
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = TargetedPGD(model, eps=8/255)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    target: Target | Tensor = "least-likely"
    """Wrong class of each image: the least likely on the clean image, a random one, or given as int64 [B]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.target, str) and self.target not in ("least-likely", "random"):
            raise InputError(f"target={self.target!r}: expected 'least-likely', 'random' or the class of each image.")

    def __call__(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the examples [B, C, H, W]; ``target`` int64 [B], if given, replaces the field.

        Raises:
            InputError: wrong images or labels; targets that are not one wrong class of the model per image.
        """
        if target is not None:
            return dataclasses.replace(self, target=target)(x, y)
        return super().__call__(x, y)

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the examples [B, C, H, W]."""
        with torch.no_grad():
            target = self._targets(self.model(x), y)
        return self.pgd(lambda logits, t: -cross_entropy_sum(logits, t)).perturb(x, target)

    def _targets(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the wrong class of each image, int64 [B], given the ``logits`` [B, N] of the clean images."""
        ranked = wrong_classes(logits, y)
        if isinstance(self.target, Tensor):
            return _checked(self.target, y, logits.shape[1])
        if self.target == "least-likely":
            return ranked[:, -1]
        draw = torch.randint(ranked.shape[1], (len(y), 1), generator=shared(self.generator), device=y.device)
        return ranked.gather(1, draw).squeeze(1)


def _checked(target: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return ``target`` as int64 [B] on the device of ``y``; refuse targets that are no wrong classes."""
    if target.shape != y.shape or target.is_floating_point():
        raise InputError(f"expected {len(y)} integer targets; got {list(target.shape)} of {target.dtype}.")
    target = target.to(y.device, torch.int64)
    if not bool(((target >= 0) & (target < classes)).all()):
        raise InputError(
            f"targets must be classes from 0 to {classes - 1}; got {int(target.min())} to {int(target.max())}."
        )
    if bool((target == y).any()):
        raise InputError("target: a target equals the label of its image; give a wrong class of each image.")
    return target
