"""Steps of a training that is not meant to end: rehearsed in a folder that goes away, to be timed and counted."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from nuat.config import TrainConfig
from nuat.core.pass_counter import PassCounter
from nuat.core.threat import Linf
from nuat.defenses import Defense, Step
from nuat.distributed.world import World
from nuat.plan.memory import SavedTensors, size
from nuat.plan.operations import OperationCounter
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training.run import Loop

T = TypeVar("T")


@contextlib.contextmanager
def rehearsal(config: TrainConfig, recipe: str, device: torch.device) -> Iterator[Loop]:
    """Yield the parts of a run whose folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Loop(config, RunFolder(Path(folder)), recipe, device, Reporter(), _Alone())


class _Alone(World):
    """The one process of a rehearsal, which notes what a defense would exchange with others."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions = self.sums = self.summed = 0

    def agree(self, value: T) -> T:
        """Return ``value``, a decision that others would be sent."""
        self.decisions += 1
        return super().agree(value)

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors, to which those of others would be added."""
        self.sums += 1
        self.summed += sum(tensor.nbytes for tensor in tensors)
        return super().sum(tensors)


def stand_at(loop: Loop, epoch: int) -> None:
    """Put a run before the first batch of an epoch (from 0), whose batches will cost the most they can."""
    loop.state.epoch, loop.state.batch = epoch, 0
    loop.state.step = epoch * (loop.steps // loop.config.epochs)
    loop.config.defense.expect_most(loop.state.defense, epoch)


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def epoch_kinds(defense: Defense, epochs: int) -> tuple[tuple[int, ...], ...]:
    """Return, for each epoch, how many passes its even and its odd batches take: epochs alike cost the same.

    Counted with a network of one layer. A hybrid takes the most it can; AWP without its perturbation takes fewer.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).train()
    x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    state = defense.init_state(model)
    kinds = []
    for epoch in range(epochs):
        counted: list[int] = []
        defense.expect_most(state, epoch)
        for batch in (0, 1):
            generator = torch.Generator().manual_seed(0)
            step = Step(
                threat=Linf(0.1), epoch=epoch, epochs=epochs, batch=batch, batches=2, generator=generator,
                index=torch.arange(2),
            )  # fmt: skip
            with PassCounter(model) as passes:
                torch.autograd.backward(defense.loss(model, x, y, step, state).loss)
            counted += [passes.evaluation_batches, passes.training_batches, passes.backward_batches]
        kinds.append(tuple(counted))
    return tuple(kinds)


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a batch does, a mean over an even and an odd one."""

    operations: float
    """Operations of the whole batch, all its updates included."""
    forwards: float
    """Forward passes of the batch, those of the attack included."""
    training_forwards: float
    """Those of them with batch norm in training mode."""
    backwards: float
    """Passes backward from the logits."""
    decisions: float
    """Times that the defense would ask the first of several processes."""
    sums: float
    """Times that it would sum numbers over them."""
    summed: float
    """Bytes of these numbers."""
    drawn: float
    """Random numbers."""
    largest_draw: int
    """Bytes of the most that are drawn at once."""
    saved: int
    """Bytes that autograd holds at most, on a CPU, without weights and buffers."""
    state: dict[str, int]
    """Bytes of what stays in memory between steps, by what it is."""


def count(loop: Loop, epoch: int) -> Count:
    """Take an even and an odd batch of an epoch of a run on the CPU, and count what they do."""
    stand_at(loop, epoch)
    model, world = loop.state.model, loop.world
    assert isinstance(world, _Alone)
    world.decisions = world.sums = world.summed = 0
    kept = [model.state_dict(), loop.state.average, loop.state.defense]
    with PassCounter(model) as passes, OperationCounter() as operations, SavedTensors(kept) as saved:
        for batch in loop.epoch():
            loop.train_batches([batch])
    batches = loop.batches
    return Count(
        operations=operations.total / batches,
        forwards=(passes.training_batches + passes.evaluation_batches) / batches,
        training_forwards=passes.training_batches / batches,
        backwards=passes.backward_batches / batches,
        decisions=world.decisions / batches,
        sums=world.sums / batches,
        summed=world.summed / batches,
        drawn=operations.drawn / batches,
        largest_draw=operations.largest_draw,
        saved=saved.peak,
        state=resident(loop),
    )


def resident(loop: Loop) -> dict[str, int]:
    """Return the bytes of what a run keeps on its device between steps, after at least one step, by what it is."""
    state = loop.state
    model = size(state.model.state_dict())
    return {
        "weights": size(dict(state.model.named_parameters())),
        "buffers": size(dict(state.model.named_buffers())),
        "gradients": size([p.grad for p in state.model.parameters() if p.grad is not None]),
        "optimizer": size(dict(state.optimizer.state)),
        # the average itself, and the network that it is loaded into for validation and shipping
        "averages": 0 if state.average is None else size(state.average) + model,
        "defense": size(state.defense),
    }


def seconds(loop: Loop, epoch: int, pairs: int) -> float:
    """Return the seconds of a batch of an epoch: the mean of an even one's and an odd one's median over ``pairs``.

    A first pair, which is not timed, pays for what only first steps cost.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs + 1):
        stand_at(loop, epoch)
        wait(loop.device)
        clock = time.perf_counter()
        for parity, batch in enumerate(loop.epoch()):
            loop.train_batches([batch])
            wait(loop.device)
            now = time.perf_counter()
            if pair > 0:
                taken[parity].append(now - clock)
            clock = now
    return statistics.fmean(statistics.median(times) for times in taken)


def extra_on_gpu(loop: Loop, epoch: int) -> int:
    """Return the bytes that an even and an odd batch allocate at most beyond what lies on the GPU between steps."""
    stand_at(loop, epoch)
    wait(loop.device)
    torch.cuda.reset_peak_memory_stats(loop.device)
    before = torch.cuda.memory_allocated(loop.device)
    for batch in loop.epoch():
        loop.train_batches([batch])
    wait(loop.device)
    return torch.cuda.max_memory_allocated(loop.device) - before
