"""The extension point of training: how a batch becomes a loss.

A defense is a frozen dataclass of settings with one required method, ``loss``. Its memory between batches is a *state*:
a dictionary of tensors, numbers, strings and dictionaries of these. The training loop owns and checkpoints it;
``init_state`` creates it with all its names, and ``loss`` and ``after_step`` may change it in place.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from nuat.core.random import Source
from nuat.core.threat import Threat
from nuat.distributed.world import ALONE, World

State = dict[str, Any]

EpochSchedule = Callable[[int, int], float]
"""Function from the epoch (from 0) and the number of epochs to a value, such as lambda."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Position of a batch in the run, and what a defense may use.

    Example:
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import Step
        >>> step = Step(threat=Linf(8 / 255), epoch=0, epochs=30, batch=5, batches=100)
        >>> step.batch % 2 == 1  # batches whose attack has the nuclear norm
        True
    """

    threat: Threat
    """The ball of this batch, with the starts, steps and projections of its norm: Linf, L2 or L1. Where the loop
    repeats a recorded step, eps is a scalar on the device: take part in arithmetic with it, but do not compare or
    convert it."""
    epoch: int
    """Epoch of this batch, from 0."""
    epochs: int
    """Epochs of the run."""
    batch: int
    """Batch within the epoch, from 0."""
    batches: int
    """Batches an epoch."""
    size_factor: float = 1.0
    """Factor by which a defense multiplies its ``sizes``: the present eps of ``threat`` divided by the run's
    ``threat.eps``. It differs from 1 while eps is warmed up, and in the further balls of a union. Like eps, it may be a
    scalar on the device."""
    generator: Source = None
    """Source of every random draw, on the model's device (``nuat.core.random``). None: torch's global generator."""
    index: Tensor | None = None
    """Positions of the images in the training set, int64 [M], for defenses that remember images. With CutMix, of the
    images that the boxes are pasted into."""
    two_steps: bool = False
    """Whether this is the epoch after a brake (``nuat.training.brake``): attack in two steps of half the size."""
    held: Callable[[EpochSchedule], float] | None = None
    """Returns the scalar on the device that holds a schedule's present value. None: values are plain floats."""
    world: World = ALONE
    """The processes that share the batch. With several, x holds this process's images, while y, index and the logits of
    the model belong to all M images (``World.joint``), so losses need no change. Anything else that differs between
    processes must be agreed on or summed through it."""

    def value(self, schedule: EpochSchedule) -> float:
        """Return the value of ``schedule`` in this epoch; like eps, it may be a scalar on the device."""
        return schedule(self.epoch, self.epochs) if self.held is None else self.held(schedule)


@dataclass(frozen=True)
class BatchLoss:
    """Loss of a batch, with what is worth recording.

    Example:
        >>> import torch
        >>> from nuat.defenses import BatchLoss
        >>> clean_loss = torch.tensor(0.5)
        >>> BatchLoss(clean_loss + 0.25, {"clean_loss": clean_loss}).loss
        tensor(0.7500)
    """

    loss: Tensor
    """Scalar that the optimizer minimises, with its graph."""
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Detached scalars; the loop logs their means over the epoch. The collapse monitor reads ``clean_loss``."""
    events: tuple[Mapping[str, Any], ...] = ()
    """Events for the record, such as a switch: dictionaries of JSON values with a ``kind``."""


@dataclass(frozen=True, kw_only=True)
class Defense:
    """Base of the defenses; a subclass is a frozen keyword-only dataclass that defines ``loss``.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from nuat.core.losses import cross_entropy
        >>> from nuat.core.threat import Linf
        >>> from nuat.defenses import BatchLoss, Defense, Step
        >>> @dataclass(frozen=True, kw_only=True)
        ... class NoDefense(Defense):
        ...     def loss(self, model, x, y, step, state):
        ...         return BatchLoss(cross_entropy(model(x), y))
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        >>> step = Step(threat=Linf(8 / 255), epoch=0, epochs=1, batch=0, batches=1)
        >>> NoDefense().loss(model, torch.rand(2, 3, 2, 2), torch.tensor([0, 2]), step, {}).loss.shape
        torch.Size([])
    """

    judged_by: ClassVar[Literal["pgd", "clean"]] = "pgd"
    """Validation accuracy that chooses the best epoch: under PGD, or on clean images for standard training."""

    per_image: ClassVar[tuple[str, ...]] = ()
    """Names in the state of what is kept per image of the batch: tensors [B, ...], or None. Each process holds its own
    rows; a checkpoint holds the rows of all."""

    sizes: ClassVar[tuple[str, ...]] = ()
    """Settings that are sizes of perturbations in the units of eps; a run checks them in its norm. In a union they
    belong to its first ball, and are the same share of eps in the others. None: not set."""

    smoothing: float = 0.0
    """Label smoothing, in [0, 1): this share of each label is spread evenly over all classes, in the cross-entropies of
    attack and loss alike. Evaluations keep the labels. A run smooths them before ``loss`` gets them; a loop of your own
    gives ``soft_labels(y, classes, smoothing)`` of ``nuat.core.losses``."""

    @property
    def updates_per_batch(self) -> int:
        """Return how often the loop calls ``loss`` and updates the weights with each batch."""
        return 1

    def step_kind(self, step: Step) -> Hashable | None:
        """Return the kind of a step, by which the loop may record a step and repeat it.

        From the second step of a kind on, and for one shape of images, all steps of that kind must issue the same
        operations. Only tensors, ``step.threat``, ``step.size_factor`` and ``step.value`` may differ. What the state
        holds must stay, or be changed in place. None, the default: steps may differ in other ways, as where the host
        decides by the values of a tensor; no step is repeated.

        A subclass declares its own kinds: none are inherited.
        """
        return None

    def init_state(self, model: nn.Module) -> State:
        """Return the state at the start of a run; by default it is empty."""
        return {}

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        """Return the loss of a batch, ready for ``backward``.

        Args:
            model: in training mode, which it must keep.
            x: images [B, C, H, W] in [0, 1]; with several devices, this process's share of the batch.
            y: labels, int64 [B]; with several devices, of the whole batch. Soft labels, float [B, N], where
                ``smoothing`` or ``data.cutmix`` makes them: the losses of ``nuat.core.losses`` take both.
            step: position of the batch in the run.
            state: the return value of ``init_state``; may be changed in place.
        """
        raise AssertionError("Defense is abstract")

    def after_step(self, model: nn.Module, step: Step, state: State) -> None:
        """Follow the optimizer's update of the weights, as averages do; by default do nothing."""

    def summary(self, state: State, batches: int) -> dict[str, Any]:
        """Return figures of the whole run for its record, as JSON values; ``batches`` is the number in an epoch."""
        return {}
