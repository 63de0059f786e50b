"""R-FGSM-AT: adversarial training on R-FGSM examples (Tramer et al. 2018); "RFGSM-AT" of Tables 1a and 2."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from nuat.attacks import RFGSM
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step


@dataclass(frozen=True, kw_only=True)
class RFGSMAT(AdversarialTraining):
    """Cross-entropy on R-FGSM examples: a random sign start of eps / 2 and one step of eps / 2.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import RFGSMAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = RFGSMAT()
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
        """Return x' + eps/2 * sign(grad CE(f(x'), y)) with x' = x +- eps/2, in the ball and the box."""
        return RFGSM(model, eps=step.threat.eps, norm=step.threat.norm, generator=step.generator).perturb(x, y)
