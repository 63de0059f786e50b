"""FGSM-AT: adversarial training on FGSM examples (Goodfellow et al. 2015); the row "FGSM-AT" of Table 1a.

It overfits to its own attack: gradients are masked, so that the model withstands FGSM but not PGD.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from nuat.attacks import FGSM
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step


@dataclass(frozen=True, kw_only=True)
class FGSMAT(AdversarialTraining):
    """Cross-entropy on FGSM examples: one step of eps from the image itself.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import FGSMAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = FGSMAT()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    halves: ClassVar[bool] = True
    """Two steps of half the size may take the place of the step."""

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return x + eps * sign(grad CE(f(x), y)), in the box."""
        return FGSM(model, eps=step.threat.eps, norm=step.threat.norm).perturb(x, y)
