"""PGD-AT: adversarial training on PGD examples (Madry et al. 2018), with early stopping (Rice et al. 2020).

Early stopping is the loop's: the weights of the epoch with the highest validation accuracy under PGD are kept.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks import PGD
from nuat.core.ranges import at_least
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PGDAT(AdversarialTraining):
    """Cross-entropy on PGD examples: ``steps`` steps from a uniform start.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import PGDAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = PGDAT(steps=2)
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    steps: int = 10
    """Steps of the attack, >= 1."""
    step_size: float = 0.25
    """Size of a step in units of eps, in (0, 1]; 2/255 at eps 8/255 is 0.25."""

    def __post_init__(self) -> None:
        check_steps(self.steps, self.step_size)

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the PGD examples [B, C, H, W]."""
        eps, norm, alpha = step.threat.eps, step.threat.norm, self.step_size * step.threat.eps
        attack = PGD(model, eps=eps, norm=norm, alpha=alpha, steps=self.steps, generator=step.generator)
        return attack.perturb(x, y)


def check_steps(steps: int, step_size: float) -> None:
    """Refuse an iterative attack without steps, or with steps larger than the ball."""
    at_least("defense.steps", steps, 1)
    if not 0.0 < step_size <= 1.0:
        raise InputError(f"defense.step_size={step_size:g}: expected a step in units of eps, in (0, 1].")
