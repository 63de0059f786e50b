"""R-MGM: a regulariser against gradient masking (Vivek et al. 2019); the row "R-MGM" of Tables 1a and 2.

Where gradients are masked, R-FGSM finds what FGSM does not, so the loss draws the logits at the two examples together.
The authors published neither code nor the weight. The squared distance and the cross-entropy on the FGSM example are
our reading; the default weight is not tuned, and a recipe whose weight was swept says so.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks import FGSM, RFGSM
from nuat.attacks.base import eval_mode
from nuat.core.losses import cross_entropy, squared_distance
from nuat.core.ranges import check_weight
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class RMGM(Defense):
    """CE on the FGSM example + weight * ||f(x_fgsm) - f(x_rfgsm)||_2^2, means over the batch.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import RMGM, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = RMGM()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['adversarial_loss', 'distance']
    """

    weight: float = 1.0
    """Weight of the distance between the logits, >= 0."""

    def __post_init__(self) -> None:
        check_weight("defense.weight", self.weight)

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss in training mode on the two single-step examples."""
        with eval_mode(model):
            eps, norm = step.threat.eps, step.threat.norm
            x_fgsm = FGSM(model, eps=eps, norm=norm).perturb(x, y)
            x_rfgsm = RFGSM(model, eps=eps, norm=norm, generator=step.generator).perturb(x, y)
        logits = model(x_fgsm)
        adversarial_loss = cross_entropy(logits, y)
        distance = squared_distance(logits, model(x_rfgsm))
        metrics = {"adversarial_loss": adversarial_loss.detach(), "distance": distance.detach()}
        return BatchLoss(adversarial_loss + self.weight * distance, metrics)
