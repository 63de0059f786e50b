"""Transfer: examples made on another model, the surrogate. A black-box attack (Papernot et al. 2017)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from nuat.attacks.base import Attack, eval_mode
from nuat.attacks.mi_fgsm import MIFGSM
from nuat.attacks.pgd import PGD
from nuat.core.random import Source
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Attack ``surrogate`` and return the examples for ``model``, which is never called.

    Radius, norm and random draws are those of the attack that ``make`` returns.

    Example:
        >>> import torch
        >>> from nuat.attacks import PGD, Transfer
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x_adv = Transfer(model, surrogate=other, make=lambda m: PGD(m, eps=8/255))(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    surrogate: nn.Module
    """Model whose gradients are followed, with the classes of ``model``; on any device."""
    make: Callable[[nn.Module], Attack]
    """Function of the surrogate that returns an attack on it; called once, so all batches share its generator."""
    attack: Attack = field(init=False)
    """Attack that ``make`` returned."""
    eps: float = field(init=False)
    """Radius of the attack."""
    norm: Norm = field(init=False)
    """Norm of the attack."""
    generator: Source = field(init=False, default=None)
    """None: the attack has its own."""

    def __post_init__(self) -> None:
        attack = self.make(self.surrogate)
        if not isinstance(attack, Attack) or attack.model is not self.surrogate:
            raise InputError("make must return an attack on the model that it is given: lambda m: PGD(m, ...).")
        for name, value in (("attack", attack), ("eps", attack.eps), ("norm", attack.norm)):
            object.__setattr__(self, name, value)  # frozen for users, derived here

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surrogate's adversarial examples [B, C, H, W], on the device of ``x``.

        Raises:
            InputError: the surrogate has no logit for a label.
        """
        like = next(self.surrogate.parameters(), x)
        images = x.to(like.device, like.dtype)
        with torch.no_grad(), eval_mode(self.surrogate):
            classes = self.surrogate(images[:1]).shape[1]
        if int(y.max()) >= classes:
            raise InputError(f"the surrogate has {classes} classes; the labels go up to {int(y.max())}.")
        # a rounding to another dtype may leave the ball
        return self.threat.bounds(x).project(self.attack(images, y).to(x.device, x.dtype))


def usual_transfer(
    model: nn.Module, surrogate: nn.Module, *, norm: Norm, eps: float, generator: torch.Generator | None = None
) -> Transfer:
    """Return the transfer attack of evaluations and diagnoses.

    Linf: MI-FGSM of 10 steps with mu 1, the settings that Dong et al. 2018 found to transfer better than PGD. L2 and
    L1, for which MI-FGSM is not defined here: 40 steps of PGD, which cross the ball two and a half times.

    Args:
        model: model that the examples are for.
        surrogate: model that they are made on.
        norm: norm of the ball.
        eps: radius of the ball.
        generator: source of the random starts of PGD, on the device of the surrogate.
    """

    def make(other: nn.Module) -> Attack:
        if norm == "Linf":
            return MIFGSM(other, eps=eps, steps=10, mu=1.0)
        return PGD(other, eps=eps, norm=norm, alpha=eps / 16, steps=40, generator=generator)

    return Transfer(model, surrogate=surrogate, make=make)
