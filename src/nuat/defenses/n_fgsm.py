"""N-FGSM (de Jorge et al. 2022): FGSM around a noisy image, not clipped to the ball. Past the paper.

The noise augments the clean image rather than choosing a start inside the ball, so a perturbation reaches up to
(noise + 1) * eps.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.core.losses import cross_entropy_sum
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NFGSM(AdversarialTraining):
    """Cross-entropy after uniform noise of ``noise * eps`` and one step of eps, not projected to the ball.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import NFGSM, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = NFGSM()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    noise: float = 2.0
    """Magnitude of the noise in units of eps, in (0, 10]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.noise <= 10.0:
            raise InputError(f"defense.noise={self.noise:g}: expected a magnitude in units of eps, in (0, 10].")

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the attacked images [B, C, H, W], in the box but not in the ball."""
        noisy = (x + self.noise * step.threat.uniform(x, step.generator)).clamp(0.0, 1.0)  # their Eq. 4, eta
        gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y), noisy)
        return (noisy + step.threat.ascent(gradient, step.threat.eps, noisy)).clamp(0.0, 1.0)  # their Eq. 4, delta
