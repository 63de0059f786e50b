"""FGSM-PGI: FGSM from a prior perturbation (Jia et al. 2022, section 4). Past the paper.

This is their FGSM-BP: the prior is the perturbation of the previous batch, which works with any augmentation. Their
FGSM-EP and -MEP store a perturbation per training image, which must follow its crops and flips.

| theirs | here |
|---|---|
| eta, the initialisation, Eq. 4 | ``state["prior"]`` |
| delta, Eq. 5 | ``x_adv - x`` |
| lambda * ||f(x + delta) - f(x + eta)||_2^2, Eq. 10 | ``weight`` * mean over images and classes, as in their code |
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from nuat.attacks.base import eval_mode, input_gradient
from nuat.core.losses import cross_entropy, cross_entropy_sum, wide
from nuat.core.ranges import check_weight
from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.free_at import begins, carry


@dataclass(frozen=True, kw_only=True)
class FGSMPGI(Defense):
    """One step of eps from the previous batch's perturbation; cross-entropy and a squared distance of logits.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import FGSMPGI, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = FGSMPGI()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['adversarial_loss', 'distance']
    """

    per_image: ClassVar[tuple[str, ...]] = ("prior",)
    """The carried perturbation."""

    weight: float = 10.0
    """Weight of the distance between the logits at the prior and at the attacked image, >= 0."""

    def __post_init__(self) -> None:
        check_weight("defense.weight", self.weight)

    def init_state(self, model: nn.Module) -> State:
        """Return an empty prior; the first batch gives its shape."""
        return {"prior": None}

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(x_adv), y) + weight * (f(x_adv) - f(x_prior))^2, in training mode."""
        bounds = step.threat.bounds(x)
        if begins(state, "prior", x):  # the first batch has no prior
            carry(state, "prior", x).copy_(step.threat.uniform(x, step.generator))
        prior = carry(state, "prior", x)
        x_prior = bounds.project(x + prior)
        with eval_mode(model):
            gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y), x_prior)
        x_adv = bounds.project(x_prior + step.threat.ascent(gradient, step.threat.eps, x_prior))
        prior.copy_(x_adv - x)
        logits_adv = model(x_adv)
        adversarial_loss = cross_entropy(logits_adv, y)
        distance = mse_loss(wide(logits_adv), wide(model(x_prior)))
        metrics = {"adversarial_loss": adversarial_loss.detach(), "distance": distance.detach()}
        return BatchLoss(adversarial_loss + self.weight * distance, metrics)
