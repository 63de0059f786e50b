"""Free-AT (Shafahi et al. 2019, Algorithm 1): one backward pass moves weights and perturbation; "ATF" of Table 1a.

Each batch is replayed m times with an update each; the perturbation is carried from replay to replay and from batch to
batch. A run at the cost of N epochs has N / m epochs.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nuat.core.losses import cross_entropy
from nuat.core.ranges import at_least
from nuat.defenses.base import BatchLoss, Defense, State, Step


@dataclass(frozen=True, kw_only=True)
class FreeAT(Defense):
    """Free adversarial training: one pass in training mode gives the loss and moves the perturbation.

    Example:
        >>> import torch
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import FreeAT, Step
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).train()
        >>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
        >>> step = Step(threat=Linf(8 / 255), epoch=1, epochs=2, batch=1, batches=2)
        >>> defense = FreeAT(replays=2)
        >>> terms = defense.loss(model, x, y, step, defense.init_state(model))
        >>> terms.loss.backward()
        >>> sorted(terms.metrics)
        []
    """

    per_image: ClassVar[tuple[str, ...]] = ("delta",)
    """The carried perturbation."""

    replays: int = 8
    """Updates per batch (m), >= 1."""

    def __post_init__(self) -> None:
        at_least("defense.replays", self.replays, 1)

    @property
    def updates_per_batch(self) -> int:
        """Return m."""
        return self.replays

    def init_state(self, model: nn.Module) -> State:
        """Return an empty perturbation; the first batch gives its shape."""
        return {"delta": None}

    def step_kind(self, step: Step) -> Hashable:
        """Return the same kind for every step."""
        return "every"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return CE(f(x + delta), y); its backward pass also moves delta."""
        carried = carry(state, "delta", x)
        moved = x + carried
        in_box = (moved >= 0.0) & (moved <= 1.0)  # as in their code, nothing moves a pixel that the box cuts off
        # a leaf of its own: at the border of the ball the projection, whose last bit differs, would stop the gradient
        x_adv = step.threat.bounds(x).project(moved).requires_grad_()

        def move(gradient: Tensor) -> None:
            # Alg. 1: delta <- clip(delta + eps * sign(grad), -eps, eps); a skipped update must not leave NaN behind
            ascent = in_box * step.threat.ascent(gradient.nan_to_num(), step.threat.eps, x_adv.detach())
            carried.copy_(step.threat.shrink(carried + ascent))

        x_adv.register_hook(move)  # type: ignore[no-untyped-call]
        return BatchLoss(cross_entropy(model(x_adv), y))


def begins(state: State, name: str, x: Tensor) -> bool:
    """Return whether ``state`` holds no perturbation of the size of the images ``x`` [B, C, H, W] yet."""
    return state[name] is None or state[name].shape[1:] != x.shape[1:]


def carry(state: State, name: str, x: Tensor) -> Tensor:
    """Return the perturbation that ``state`` carries from batch to batch, cut to the batch: a view [B, C, H, W].

    It starts at 0, and again when images become larger (progressive sizes). A short last batch uses and changes the
    first rows alone.
    """
    carried = None if begins(state, name, x) else state[name]
    if carried is None or len(carried) < len(x):
        grown = torch.zeros_like(x, memory_format=torch.contiguous_format)
        if carried is not None:
            grown[: len(carried)] = carried
        state[name] = carried = grown
    view: Tensor = carried[: len(x)]
    return view
