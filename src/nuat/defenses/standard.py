"""Standard training: cross-entropy on clean images, the row "Normal" of Tables 1a and 2."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nuat.core.losses import cross_entropy
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class Standard(Defense):
    """No defense."""

    judged_by: ClassVar[Literal["pgd", "clean"]] = "clean"
    """No robustness is sought, so the best epoch is the most accurate on clean images."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(X), Y), the mean over the batch."""
        loss = cross_entropy(model(x), y)
        return BatchLoss(loss, {"clean_loss": loss.detach()})
