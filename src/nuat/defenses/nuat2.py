"""NuAT2: the two-step attack (section 5.3); its first step may use averaged weights (NuAT2-WA, section 5.4).

| paper | here |
|---|---|
| first step, Eq. 1, on the weight-averaged model | ``first``: the average's function, or the live model |
| second step, cross-entropy on the live model | ``ascent_direction(model, ..., reference=None)`` |
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from nuat.attacks.base import Forward, eval_mode
from nuat.attacks.nuclear import ascent_direction
from nuat.core import averaging
from nuat.core.gaussian_norms import Scale, weight_of
from nuat.core.ranges import check_size, check_tau
from nuat.core.schedules import Ramp
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.nuat import regularised_loss, start


@dataclass(frozen=True, kw_only=True)
class NuAT2(Defense):
    """Two-step NuAT: a step of eps on CE + lambda * nuclear norm, then a step of eps on CE alone.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import NuAT2, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = NuAT2()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss', 'lam', 'nuclear', 'rank']
    """

    sizes: ClassVar[tuple[str, ...]] = ("alpha",)
    """The start."""

    lam: Ramp = field(default_factory=Ramp)
    """Lambda over the epochs."""
    alpha: float | None = None
    """Size of the start, as of NuAT. None: eps / 2. It shrinks with eps while eps is warmed up."""
    scale: Scale = "batch"
    """Divisor of the norm, as in NuAT: batch or gaussian."""
    attack_tau: float | None = None
    """Decay of the average that takes the first attack step, in [0, 1). None: the live weights take it, as
    they always do in the first epoch. The authors' NuAT2-WA uses 0.99."""

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_size("defense.alpha", self.alpha)
        if self.attack_tau is not None:
            check_tau("defense.attack_tau", self.attack_tau)

    def init_state(self, model: nn.Module) -> State:
        """Return the weight average of the attack, if it takes one."""
        return {} if self.attack_tau is None else {"attack_average": averaging.start(model)}

    def step_kind(self, step: Step) -> Hashable:
        """Return whether the first attack step has the nuclear norm, and whether it takes the averaged weights."""
        return self._first_step(step)

    def _first_step(self, step: Step) -> tuple[bool, bool]:
        return self.lam(step.epoch, step.epochs) > 0, self.attack_tau is not None and step.epoch > 0

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss of Alg. 1, line 8, on the two-step attack of section 5.3."""
        lam = step.value(self.lam)
        regularised, averaged = self._first_step(step)
        first = averaging.forward(model, state["attack_average"]) if averaged else model
        with eval_mode(model):
            x_adv = two_step_attack(model, first, x, y, lam, self.alpha, step, self.scale, regularised=regularised)
        return regularised_loss(model, x, y, x_adv, None, lam, scale=self.scale)

    def after_step(self, model: nn.Module, step: Step, state: State) -> None:
        """Update the attack's average."""
        if self.attack_tau is not None:
            averaging.update(state["attack_average"], model, self.attack_tau)


def two_step_attack(
    model: nn.Module,
    first: Forward,
    x: Tensor,
    y: Tensor,
    lam: float,
    alpha: float | None,
    step: Step,
    scale: Scale = "batch",
    *,
    regularised: bool,
) -> Tensor:
    """Return X~ [M, C, H, W] of section 5.3; the model is in evaluation mode, ``first`` is f of the first step.

    Unless ``regularised``, the first step leaves the nuclear norm out.
    """
    bounds = step.threat.bounds(x)
    with torch.no_grad():
        reference = first(x) if regularised else None
    torch.clear_autocast_cache()  # weights cast without a graph would give the loss none
    x_adv = start(x, step, alpha)  # Alg. 1, line 4
    weight = lam if reference is None else weight_of(lam, reference, scale=scale)
    gradient = ascent_direction(first, x_adv, y, reference, weight)
    x_adv = bounds.project(x_adv + step.threat.ascent(gradient, step.threat.eps, x_adv))
    gradient = ascent_direction(model, x_adv, y, None, 0.0)
    return bounds.project(x_adv + step.threat.ascent(gradient, step.threat.eps, x_adv))
