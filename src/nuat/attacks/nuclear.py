"""The nuclear-norm attack: one step on Eq. 1 (section 5.1), or two (section 5.3); and a norm alone, for Figure 2.

| paper | here |
|---|---|
| Delta ~ Bern(-alpha, alpha), Alg. 1 line 4 | ``bernoulli(x, alpha)`` |
| L~ = CE(f(X + Delta), Y) + lambda ||f(X + Delta) - f(X)||_*, Eq. 1 | ``ascent_direction`` |
| f(X) | ``reference``, logits [M, N] |

The cross-entropy is a batch mean and the nuclear norm is divided by M: Eq. 1 divided by M, whose sign is the same.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nuat.attacks.base import Attack, Forward, input_gradient
from nuat.core.losses import cross_entropy
from nuat.core.nuclear import NORM_TERMS, NormName
from nuat.core.threat import NORMS, Linf, Norm, bernoulli, check_radius
from nuat.errors import InputError


def ascent_direction(
    forward: Forward, x_adv: Tensor, y: Tensor, reference: Tensor | None, lam: float, norm: NormName = "nuclear"
) -> Tensor:
    """Return the gradient of Eq. 1 in ``x_adv`` [M, C, H, W]; if ``reference`` is None, of the cross-entropy alone."""

    def objective(z: Tensor) -> Tensor:
        logits = forward(z)
        loss = cross_entropy(logits, y)
        return loss if reference is None else loss + lam * NORM_TERMS[norm](logits, reference)

    return input_gradient(objective, x_adv)


def norm_attack(
    forward: Forward,
    x: Tensor,
    reference: Tensor,
    *,
    norm: NormName,
    eps: float,
    alpha: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Return ``x`` [M, C, H, W] after steps that raise a norm of the logit differences alone (Figure 2).

    Args:
        forward: images to logits.
        x: images in [0, 1].
        reference: f(x), logits [M, N].
        norm: norm that is raised.
        eps: radius of the Linf ball.
        alpha: magnitude of the Bernoulli start.
        steps: number of steps, each of ``step_size``.
        step_size: size of a step.
        generator: source of the start.
    """
    bounds = Linf(eps).bounds(x)
    x_adv = bounds.project(x + bernoulli(x, alpha, generator))
    for _ in range(steps):
        gradient = input_gradient(lambda z: NORM_TERMS[norm](forward(z).to(reference.dtype), reference), x_adv)
        x_adv = bounds.project(x_adv + step_size * gradient.sign())
    return x_adv


@dataclass(frozen=True, kw_only=True)
class NuclearNormAttack(Attack):
    """Eq. 1 from a Bernoulli start; with ``steps=2`` a second step on the cross-entropy alone (section 5.3).

    Each step has size eps and is projected. The nuclear norm couples the images of a batch, so the result for an
    image depends on its batch.

    Example:
        >>> import torch
        >>> from nuat.attacks import NuclearNormAttack
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = NuclearNormAttack(model, eps=8/255, lam=4.0)(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    lam: float = 1.0
    """Weight of the nuclear norm per image, >= 0."""
    alpha: float | None = None
    """Size of the start, in the units of eps: Linf: of the Bernoulli noise, in (0, 1]. None: eps / 2."""
    steps: int = 1
    """1 or 2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_radius("alpha", self.alpha, self.norm)
        if self.steps not in (1, 2):
            raise InputError(f"steps={self.steps}: the nuclear-norm attack has 1 step or 2 (section 5.3).")
        if not self.lam >= 0:
            raise InputError(f"lam={self.lam}: expected a weight >= 0.")

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the attacked images [M, C, H, W]."""
        bounds = self.threat.bounds(x)
        with torch.no_grad():
            reference = self.model(x)
        alpha = self.eps / 2 if self.alpha is None else self.alpha
        x_adv = bounds.project(x + self.threat.far(x, alpha, self.generator))
        for weighted in (reference, None)[: self.steps]:
            gradient = ascent_direction(self.model, x_adv, y, weighted, self.lam)
            x_adv = bounds.project(x_adv + self.threat.ascent(gradient, self.eps, x_adv))
        return x_adv
