"""Standard training: cross-entropy on clean images, the row "Normal" of Tables 1a and 2."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from nuat.core.losses import cross_entropy
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class Standard(Defense):
    """Standard training without a defense.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import Standard, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = Standard()
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        ['clean_loss']
    """

    judged_by: ClassVar[Literal["pgd", "clean"]] = "clean"
    """No robustness is sought, so the best epoch is the most accurate on clean images."""

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(X), Y), the mean over the batch."""
        loss = cross_entropy(model(x), y)
        return BatchLoss(loss, {"clean_loss": loss.detach()})
