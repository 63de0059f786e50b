"""NuAT: single-step nuclear-norm adversarial training (sections 5.1 and 5.2, Algorithm 1).

| paper | here | |
|---|---|---|
| f_theta | ``model`` | live weights |
| X, Y, M | ``x``, ``y``, ``len(x)`` | [M, C, H, W], int64 [M] |
| Delta, alpha | ``step.threat.far(x, alpha)`` | start of the attack; Linf: ``bernoulli`` |
| X~ | ``x_adv`` | |
| epsilon | ``step.threat.eps`` | also the size of the attack's step |
| lambda | ``lam`` | the same in Eq. 1 and Eq. 2, ramped per epoch |
| ||.||_* | ``nuclear_term`` | divided by M, as the cross-entropy is a mean; see ``scale`` |
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nuat.attacks.base import eval_mode
from nuat.attacks.nuclear import ascent_direction
from nuat.core.gaussian_norms import Scale, weight_of
from nuat.core.losses import cross_entropy
from nuat.core.nuclear import NORM_TERMS, NormName, frobenius_term, nuclear_term
from nuat.core.ranges import check_size
from nuat.core.schedules import Ramp
from nuat.defenses.base import BatchLoss, Defense, EpochSchedule, State, Step
from nuat.defenses.training_passes import CleanPass, Passes, reference_pass

Batches = Literal["odd", "every", "never"]


@dataclass(frozen=True, kw_only=True)
class NuAT(Defense):
    """Single-step NuAT: in every other batch the attack follows CE + lambda * nuclear norm, else CE alone (R-FGSM).

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import NuAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = NuAT()
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
    """Size of the start, in the units of eps; Linf: magnitude of the Bernoulli noise, in (0, 1]. None: eps / 2, as on
    CIFAR-10. It shrinks with eps while eps is warmed up."""
    norm: NormName = "nuclear"
    """Norm of the logit differences, in the attack and in the loss. frobenius: what section 5.1 compares it with."""
    scale: Scale = "batch"
    """Divisor of the norm. batch: M, as in the paper. gaussian: M times the growth of a Gaussian matrix's norm per
    image from 64 x 10 to M x N, so that lambda means the same for any batch and number of classes."""
    regularised_attack: Batches = "odd"
    """Batches of an epoch, counted from 0, whose attack has the nuclear norm: odd (section 5.1), every or never."""
    passes: Passes = "one"
    """one: a single clean pass in training mode serves attack and loss. authors: their code's three passes, clean,
    attacked, clean. The running statistics of batch norm are the same; the draws of dropout are not."""

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_size("defense.alpha", self.alpha)

    def step_kind(self, step: Step) -> Hashable:
        """Return whether the attack has the nuclear norm."""
        return has_regularised_attack(self.regularised_attack, step, self.lam)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss of Alg. 1, line 8, on the single-step attack of lines 4-7."""
        lam = step.value(self.lam)
        clean = CleanPass(model, x) if self.passes == "one" else None
        logits_clean = reference_pass(model, x) if clean is None else clean.logits
        weight = weight_of(lam, logits_clean, self.norm, self.scale)
        with eval_mode(model):
            regularised = has_regularised_attack(self.regularised_attack, step, self.lam)
            reference = logits_clean.detach() if regularised else None
            x_adv = single_step_attack(model, x, y, reference, weight, self.alpha, step, self.norm)
        return regularised_loss(model, x, y, x_adv, clean, lam, self.norm, self.scale)


def single_step_attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    reference: Tensor | None,
    lam: float,
    alpha: float | None,
    step: Step,
    norm: NormName = "nuclear",
) -> Tensor:
    """Return X~ [M, C, H, W] of Alg. 1, lines 4-7; the model is in evaluation mode.

    ``reference`` is f(X) [M, N]. None: the attack leaves the nuclear norm out.
    """
    x_adv = start(x, step, alpha)  # Alg. 1, line 4
    gradient = ascent_direction(model, x_adv, y, reference, lam, norm)  # Alg. 1, line 5
    return step.threat.bounds(x).project(x_adv + step.threat.ascent(gradient, step.threat.eps, x_adv))  # lines 6-7


def has_regularised_attack(batches: Batches, step: Step, weight: EpochSchedule) -> bool:
    """Return whether the attack of this batch has the regulariser, which a weight of 0 leaves out."""
    return batches != "never" and (batches == "every" or step.batch % 2 == 1) and weight(step.epoch, step.epochs) > 0


def start(x: Tensor, step: Step, alpha: float | None) -> Tensor:
    """Return the attack's start X + Delta [M, C, H, W], clamped to [0, 1]; ``alpha`` None: eps / 2."""
    # a start of twice the present eps leaves the step nothing to decide: the projection returns the noise's corner
    magnitude = step.threat.eps / 2 if alpha is None else alpha * step.size_factor
    return (x + step.threat.far(x, magnitude, step.generator)).clamp(0.0, 1.0)  # the authors' scripts clamp the start


def regularised_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    x_adv: Tensor,
    clean: CleanPass | None,
    lam: float,
    norm: NormName = "nuclear",
    scale: Scale = "batch",
) -> BatchLoss:
    """Return CE(f(X), Y) + lambda ||f(X~) - f(X)||_* / M in training mode (Alg. 1, line 8).

    ``clean`` is the pass that gave f(X). None: f(X) is computed here, after f(X~) as in the authors' code.
    """
    logits_adv = model(x_adv) if clean is None else clean.attacked(x_adv)
    logits_clean = model(x) if clean is None else clean.logits
    clean_loss = cross_entropy(logits_clean, y)
    regulariser = NORM_TERMS[norm](logits_adv, logits_clean)
    with torch.no_grad():
        nuclear = regulariser if norm == "nuclear" else nuclear_term(logits_adv, logits_clean)
        frobenius = frobenius_term(logits_adv, logits_clean)
    metrics: Mapping[str, Tensor | float] = {
        "clean_loss": clean_loss.detach(),
        "nuclear": nuclear.detach(),
        # at most the rank of f(X~) - f(X), and equal to it if the singular values that are not 0 agree (section 5.2)
        "rank": (nuclear.detach() / frobenius.clamp(min=1e-30)) ** 2,
        "lam": lam,
    }
    return BatchLoss(clean_loss + weight_of(lam, logits_clean, norm, scale) * regulariser, metrics)
