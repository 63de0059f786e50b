"""FGSM-AT: adversarial training on FGSM examples (Goodfellow et al. 2015); the row "FGSM-AT" of Table 1a.

It overfits to its own attack: gradients are masked, and the model withstands FGSM but not PGD.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks import FGSM
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step


@dataclass(frozen=True, kw_only=True)
class FGSMAT(AdversarialTraining):
    """No random start, one step of eps, cross-entropy on the attacked images."""

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return x + eps * sign(grad CE(f(x), y)), in the box."""
        return FGSM(model, eps=step.threat.eps).perturb(x, y)
