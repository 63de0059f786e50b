"""FBF, "fast is better than free" (Wong et al. 2020, Algorithm 3): FGSM from a uniform start, with a long step."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.core.losses import cross_entropy_sum
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FBF(AdversarialTraining):
    """Cross-entropy after one step of ``step_size * eps`` from a uniform start in the ball, projected.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import FBF, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = FBF()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    halves: ClassVar[bool] = True
    """Two steps of half the size may take the place of the step."""

    step_size: float = 1.25
    """Size of the step in units of eps, in (0, 2]; above 1.25 it overfits catastrophically (their Figure 2)."""
    clamped_start: bool = True
    """Whether the gradient is taken at a start clamped to [0, 1], as in their CIFAR-10 code. Their MNIST code takes it
    at the start as drawn."""

    def __post_init__(self) -> None:
        if not 0.0 < self.step_size <= 2.0:
            raise InputError(f"defense.step_size={self.step_size:g}: expected a step in units of eps, in (0, 2].")

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the attacked images [B, C, H, W]."""
        bounds = step.threat.bounds(x)
        x_adv = x + step.threat.uniform(x, step.generator)  # Alg. 3: delta = Uniform(-eps, eps)
        if self.clamped_start:
            x_adv = bounds.project(x_adv)
        gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y), x_adv)
        # Alg. 3: delta = delta + alpha * sign(grad), delta = max(min(delta, eps), -eps)
        return bounds.project(x_adv + step.threat.ascent(gradient, self.step_size * step.threat.eps, x_adv))
