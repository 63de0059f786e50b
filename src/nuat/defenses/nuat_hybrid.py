"""NuAT-H: single-step NuAT that turns to the two-step attack when training becomes unstable (section 5.5).

The paper gives the rule, "a sudden drop in the training loss on clean samples when compared to the average loss of
the previous epoch", not its threshold. Here a batch is attacked in two steps when its clean loss is below
(1 - drop) times the previous epoch's mean clean loss; the first epoch is single-step. With soft labels both are taken
from the least loss that these allow, since no loss falls below it.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from nuat.attacks.base import eval_mode
from nuat.core.gaussian_norms import Scale, weight_of
from nuat.core.losses import cross_entropy, least_cross_entropy
from nuat.core.ranges import check_size
from nuat.core.schedules import Ramp
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.nuat import (
    Batches,
    has_regularised_attack,
    regularised_loss,
    single_step_attack,
)
from nuat.defenses.nuat2 import two_step_attack
from nuat.defenses.training_passes import CleanPass, Passes, reference_pass
from nuat.errors import InputError, NonFiniteError


@dataclass(frozen=True, kw_only=True)
class NuATHybrid(Defense):
    """Hybrid NuAT; a smaller ``drop`` turns to the stronger attack more often.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import NuATHybrid, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = NuATHybrid()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss', 'lam', 'nuclear', 'rank', 'two_step']
    """

    sizes: ClassVar[tuple[str, ...]] = ("alpha",)
    """The start."""

    lam: Ramp = field(default_factory=Ramp)
    """Lambda over the epochs."""
    alpha: float | None = None
    """Size of the start, as of NuAT. None: eps / 2. It shrinks with eps while eps is warmed up."""
    scale: Scale = "batch"
    """Divisor of the norm, as in NuAT: batch or gaussian."""
    regularised_attack: Batches = "odd"
    """Batches of an epoch, counted from 0, whose single-step attack has the nuclear norm: odd, every or never."""
    passes: Passes = "one"
    """Clean passes as in NuAT: one, or the authors' two."""
    drop: float = 0.3
    """Relative drop of a batch's clean loss below the previous epoch's mean, in (0, 1), from which it is attacked in
    two steps. The default is ours: the paper's threshold is not public."""

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_size("defense.alpha", self.alpha)
        if not 0.0 < self.drop < 1.0:
            raise InputError(f"defense.drop={self.drop:g}: expected a relative drop in (0, 1).")

    def init_state(self, model: nn.Module) -> State:
        """Return the clean losses of this epoch, the mean of the previous one, and the counts of the whole run."""
        return {
            "epoch": 0,
            "loss_sum": 0.0,
            "loss_count": 0,
            "previous_mean": None,
            "two_step": False,
            "two_step_batches": 0,
            "switches": 0,
        }

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss of Alg. 1, line 8, on the single-step or the two-step attack."""
        lam = self.lam(step.epoch, step.epochs)
        clean = CleanPass(model, x) if self.passes == "one" else None
        logits_clean = reference_pass(model, x) if clean is None else clean.logits
        # the host decides, once for all processes
        clean_loss = step.world.agree(float(cross_entropy(logits_clean.detach(), y) - least_cross_entropy(y)))
        if not math.isfinite(clean_loss):  # in the epoch's mean it would stop all switches
            raise NonFiniteError("the clean loss is infinite or NaN: the model has diverged.")
        switch = self._decide(clean_loss, step, state)
        with eval_mode(model):
            if state["two_step"]:
                x_adv = two_step_attack(model, model, x, y, lam, self.alpha, step, self.scale, regularised=lam > 0)
            else:
                regularised = has_regularised_attack(self.regularised_attack, step, self.lam)
                reference = logits_clean.detach() if regularised else None
                weight = weight_of(lam, logits_clean, scale=self.scale)
                x_adv = single_step_attack(model, x, y, reference, weight, self.alpha, step)
        terms = regularised_loss(model, x, y, x_adv, clean, lam, scale=self.scale)
        return BatchLoss(terms.loss, {**terms.metrics, "two_step": float(state["two_step"])}, switch)

    def summary(self, state: State, batches: int) -> dict[str, Any]:
        """Return the switches and the two-step batches in epochs, as the subscripts of Table 1b count them."""
        epochs = state["two_step_batches"] / batches
        return {
            "switches": state["switches"],
            "two_step_batches": state["two_step_batches"],
            "two_step_epochs": epochs,
            "table_1b_subscript": math.ceil(epochs),  # "rounded to the next largest integer", section 6.1
        }

    def _decide(self, clean_loss: float, step: Step, state: State) -> tuple[dict[str, Any], ...]:
        """Set ``state["two_step"]`` for this batch, count it, and return the event of a switch, if there was one."""
        if step.epoch != state["epoch"]:
            state["previous_mean"] = state["loss_sum"] / state["loss_count"] if state["loss_count"] else None
            state.update(epoch=step.epoch, loss_sum=0.0, loss_count=0)
        before, mean = state["two_step"], state["previous_mean"]
        now = mean is not None and clean_loss < (1.0 - self.drop) * mean
        state.update(two_step=now, two_step_batches=state["two_step_batches"] + now)
        state.update(loss_sum=state["loss_sum"] + clean_loss, loss_count=state["loss_count"] + 1)
        if now == before:
            return ()
        state["switches"] += 1
        where = {"epoch": step.epoch, "batch": step.batch}
        return ({"kind": "switch", **where, "two_step": now, "clean_loss": clean_loss, "previous_mean": mean},)
