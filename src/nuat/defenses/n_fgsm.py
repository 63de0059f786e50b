"""N-FGSM (de Jorge et al. 2022): FGSM around a noisy image, not clipped to the ball. Past the paper.

The noise is an augmentation of the clean image rather than a start inside the ball, so a perturbation reaches up to
(noise + 1) * eps from the clean image.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.core.losses import cross_entropy_sum
from nuat.defenses.adversarial import AdversarialTraining
from nuat.defenses.base import Step
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NFGSM(AdversarialTraining):
    """Uniform noise of ``noise * eps``, one step of eps, no projection to the ball, cross-entropy on the result."""

    noise: float = 2.0
    """Magnitude of the noise in units of eps, in (0, 10]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.noise <= 10.0:
            raise InputError(f"defense.noise={self.noise:g}: expected a magnitude in units of eps, in (0, 10].")

    def attack(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        """Return the attacked images [B, C, H, W], in the box but not in the ball."""
        noisy = (x + self.noise * step.threat.uniform(x, step.generator)).clamp(0.0, 1.0)  # their Eq. 4, eta
        gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y), noisy)
        return (noisy + step.threat.ascent(gradient, step.threat.eps)).clamp(0.0, 1.0)  # their Eq. 4, delta
