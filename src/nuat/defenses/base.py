"""The extension point of training: how a batch becomes a loss.

A defense is a frozen dataclass of settings with one required method, ``loss``. What it must remember between batches
lives in a *state*, a dictionary of tensors, numbers, strings and dictionaries of these, which the training loop owns
and checkpoints: ``init_state`` makes it with all its names, ``loss`` and ``after_step`` may change it in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from nuat.core.random import Source
from nuat.core.threat import Linf
from nuat.distributed.world import ALONE, World

State = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where in the run a batch stands, and what a defense may draw on."""

    threat: Linf
    """The perturbation set."""
    epoch: int
    """Epoch of this batch, from 0."""
    epochs: int
    """Epochs of the run."""
    batch: int
    """Batch within the epoch, from 0."""
    batches: int
    """Batches an epoch."""
    warmup: float = 1.0
    """Fraction of the full eps that ``threat`` has while eps is warmed up, in (0, 1]: sizes that a defense gives itself
    in pixels shrink with it."""
    generator: Source = None
    """Source of every random draw, on the model's device (``nuat.core.random``); none: torch's global generator."""
    index: Tensor | None = None
    """Positions of the images in the training set, int64 [M], for defenses that remember images."""
    world: World = ALONE
    """The processes that the batch's images are on. With several, x holds this process's images, while y, index and the
    logits that the model returns are those of all M images (``World.joint``): losses need no change. What else differs
    by process must be agreed on or summed through it."""


@dataclass(frozen=True)
class BatchLoss:
    """What a defense makes of a batch."""

    loss: Tensor
    """Scalar that the optimizer minimises, with its graph."""
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Detached scalars; the loop logs their means over the epoch. ``clean_loss``, where there is one, feeds the
    collapse monitor."""
    events: tuple[Mapping[str, Any], ...] = ()
    """Things worth a line of the record (a switch), each a dictionary of JSON values with a ``kind``."""


@dataclass(frozen=True, kw_only=True)
class Defense:
    """Base of the defenses; a subclass is a frozen keyword-only dataclass that defines ``loss``."""

    judged_by: ClassVar[Literal["pgd", "clean"]] = "pgd"
    """Validation accuracy that chooses the best epoch: under PGD, or on clean images where no robustness is sought."""

    per_image: ClassVar[tuple[str, ...]] = ()
    """Names of what the state holds per image of the batch, tensors [B, ...] or none; on several devices these are each
    process's own rows, and a checkpoint holds those of all."""

    @property
    def updates_per_batch(self) -> int:
        """Return how often the loop calls ``loss`` and updates the weights with each batch: once, but for replays."""
        return 1

    def init_state(self, model: nn.Module) -> State:
        """Return the state at the start of a run; by default a defense remembers nothing."""
        return {}

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss of a batch, ready for ``backward``.

        Args:
            model: in training mode, and left so.
            x: images [B, C, H, W] in [0, 1]; on several devices, this process's of the batch.
            y: labels, int64 [B]; on several devices, of the whole batch.
            step: where the batch stands in the run.
            state: what ``init_state`` returned; may be changed in place.
        """
        raise AssertionError("Defense is abstract")

    def after_step(self, model: nn.Module, step: Step, state: State) -> None:
        """Do what follows the optimizer's update of the weights (an average); by default nothing."""

    def expect_most(self, state: State, step_epoch: int) -> None:
        """Set ``state`` so that the batches of an epoch cost the most they can, for a forecast; by default they do."""

    def summary(self, state: State, batches: int) -> dict[str, Any]:
        """Return figures of the whole run for its record, as JSON values; ``batches`` is those of an epoch."""
        return {}
