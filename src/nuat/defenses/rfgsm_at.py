"""R-FGSM-AT: adversarial training on R-FGSM examples (Tramer et al. 2018); "RFGSM-AT" of Tables 1a and 2."""

from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks import RFGSM
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step


@dataclass(frozen=True, kw_only=True)
class RFGSMAT(AdversarialTraining):
    """Random sign start of eps / 2, one step of eps / 2, cross-entropy on the attacked images."""

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return x' + eps/2 * sign(grad CE(f(x'), y)) with x' = x +- eps/2, in the ball and the box."""
        return RFGSM(model, eps=step.threat.eps, generator=step.generator).perturb(x, y)
