"""R-MGM: a regulariser against gradient masking (Vivek et al. 2019); the row "R-MGM" of Tables 1a and 2.

Where gradients are masked, R-FGSM finds what FGSM does not. So the logits at the two examples are drawn together. The
authors publish neither code nor the weight: the squared distance and the cross-entropy on the FGSM example are our
reading, the default weight is not tuned; a recipe whose weight was swept says so.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks import FGSM, RFGSM
from nuat.attacks.base import eval_mode
from nuat.core.losses import cross_entropy, squared_distance
from nuat.core.ranges import check_weight
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class RMGM(Defense):
    """CE on the FGSM example + weight * ||f(x_fgsm) - f(x_rfgsm)||_2^2, means over the batch."""

    weight: float = 1.0
    """Weight of the distance between the logits, >= 0."""

    def __post_init__(self) -> None:
        check_weight("defense.weight", self.weight)

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss in training mode on the two single-step examples."""
        with eval_mode(model):
            x_fgsm = FGSM(model, eps=step.threat.eps).perturb(x, y)
            x_rfgsm = RFGSM(model, eps=step.threat.eps, generator=step.generator).perturb(x, y)
        logits = model(x_fgsm)
        adversarial_loss = cross_entropy(logits, y)
        distance = squared_distance(logits, model(x_rfgsm))
        metrics = {"adversarial_loss": adversarial_loss.detach(), "distance": distance.detach()}
        return BatchLoss(adversarial_loss + self.weight * distance, metrics)
