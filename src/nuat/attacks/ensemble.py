"""Ensemble: several attacks in turn, of which each image keeps its worst case."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor, nn

from nuat.attacks.base import Attack
from nuat.attacks.worst_case import keep_worst
from nuat.core.random import Source
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ensemble(Attack):
    """Run ``attacks`` in order, each on the images that those before it did not break.

    An image keeps the first example that fools the model, or else, of all examples and itself, the one with the
    highest logit margin. An image that is misclassified without an attack is returned unchanged. Each attack has its
    own random draws.

    Example:
        >>> import torch
        >>> from nuat.attacks import FGSM, PGD, Ensemble
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = Ensemble(model, attacks=[FGSM(model, eps=8/255), PGD(model, eps=8/255)])(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    attacks: Sequence[Attack]
    """One or more attacks on ``model``, all with one norm and radius; the cheap ones first."""
    eps: float = field(init=False)
    """Radius of the attacks."""
    norm: Norm = field(init=False)
    """Norm of the attacks."""
    generator: Source = field(init=False, default=None)
    """None: each attack has its own."""

    def __post_init__(self) -> None:
        if not self.attacks:
            raise InputError("attacks is empty: give at least one attack.")
        if any(attack.model is not self.model for attack in self.attacks):
            raise InputError("attacks: every attack must be one on the ensemble's model.")
        balls = {(attack.norm, attack.eps) for attack in self.attacks}
        if len(balls) > 1:
            raise InputError(f"attacks: one norm and one eps for all; got {sorted(balls)}.")
        for name in ("norm", "eps"):
            object.__setattr__(self, name, getattr(self.attacks[0], name))  # frozen for users, derived here

    def on(self, model: nn.Module) -> Self:
        """Return this ensemble, and each of its attacks, on another model."""
        return replace(self, model=model, attacks=[attack.on(model) for attack in self.attacks])

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the worst example of each image, [B, C, H, W]."""

        def run(attack: Attack) -> Callable[[Tensor], Tensor]:
            return lambda left: attack(x[left], y[left])

        return keep_worst(self.model, x, y, map(run, self.attacks))
