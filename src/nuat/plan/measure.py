"""What a plan measures: a few steps of the real training on made-up images, on the device of this machine."""

import contextlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nuat import hardware
from nuat.config import ModelConfig, TrainConfig
from nuat.core.nuclear import nuclear_norm
from nuat.core.schedules import Constant
from nuat.defenses import NuAT, NuAT2, NuATHybrid
from nuat.plan import loader
from nuat.plan.images import Images, arrived, made_up, sizes, streamed
from nuat.plan.memory import at
from nuat.plan.memory import size as bytes_of
from nuat.plan.steps import Count, count, epoch_kinds, extra_on_gpu, rehearsal, resident, seconds, wait
from nuat.training.run import Loop
from nuat.training.validation import validate

_FEW = 2
"""Images a batch where operations are counted."""
_CPU_OPERATIONS = 5e11
"""Operations of a batch that a CPU is given to be timed: a few seconds; larger batches are taken to cost in
proportion."""
_NORM = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Epochs that cost the same."""

    epochs: int
    """How many there are."""
    size: tuple[int, int]
    """Height and width [pixels] that they train at."""
    operations: float
    """Operations an image and step, all updates of the step included."""
    forwards: float
    """Forward passes a step."""
    training_forwards: float
    """Those of them in training mode."""
    backwards: float
    """Passes backward from the logits a step."""
    decisions: float
    """Times a step that the defense asks the first of several processes."""
    sums: float
    """Times a step that it sums numbers over them."""
    summed: float
    """Bytes of these numbers."""
    drawn: float
    """Random numbers an image and step."""
    largest_draw: float
    """Bytes an image of the most that are drawn at once."""
    seconds: Mapping[int, float]
    """Images a batch to seconds of a step on this machine's device."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured and counted, for whatever number of devices."""

    hardware: str
    """Where the steps were timed."""
    cpu: bool
    """Whether that was a CPU."""
    device_bytes: int | None
    """Memory of that device."""
    groups: tuple[Group, ...]
    """The epochs of the run."""
    parameters: int
    """Trained numbers."""
    norm_layers: int
    """Batch-norm layers."""
    norm_channels: int
    """Channels of them together."""
    fixed: Mapping[str, int]
    """Bytes that stay on the device whatever the batch, by what they are."""
    varying: Mapping[int, int]
    """Images a batch to the bytes that a step adds, and that the defense keeps."""
    checkpoint: int
    """Bytes of a checkpoint of the full state."""
    weights: int
    """Bytes of shipped weights."""
    validation_seconds: float
    """Seconds that an image's validation takes in an epoch, of all the models that are validated."""
    nuclear_seconds: Mapping[int, float]
    """Images of the global batch to seconds of a nuclear norm's value and gradient; empty where none is taken."""
    decode_seconds: float | None
    """Seconds in which a worker decodes an image; none where images lie on the device."""
    decode_bytes: int | None
    """Bytes of the file that was decoded."""


def timed_batch(batch: int, operations: float, device: torch.device) -> int:
    """Return the images that a step is timed with: the device's batch, on a CPU at most what takes a few seconds."""
    if device.type == "cuda":
        return max(batch, _FEW)
    return min(max(batch, _FEW), max(4, int(_CPU_OPERATIONS / operations)))


def measure(
    config: TrainConfig,
    recipe: str,
    images: Images,
    *,
    batches: Sequence[int],
    joint: Sequence[int] = (),
    pairs: int,
    timed: int | None = None,
) -> Measured:
    """Rehearse a few steps of a run, and time and count them.

    Args:
        config: of the run; its device is where steps are timed.
        recipe: its name.
        images: what they are like.
        batches: images that a device holds at once, for each number of devices that is planned for.
        joint: sizes of the global batch at which the nuclear norm is timed, if the defense takes one.
        pairs: pairs of an even and an odd step that are timed.
        timed: images of a timed step in place of those; none: those, on a CPU what takes a few seconds.
    """
    device = hardware.resolve(config.device)
    # at rate 0 the weights stay what they are, so that none diverge; the optimizer does all its work
    config = replace(
        config,
        model=_without_weights(config.model, images.channels),
        optimizer=replace(config.optimizer, lr=Constant(peak=0.0)),
        monitors=replace(config.monitors, on_nonfinite="skip", on_overfitting="warn"),
    )
    kinds = epoch_kinds(config.defense, config.epochs)
    epochs = Counter(zip(sizes(config.data, images, config.epochs), kinds, strict=True))
    last = {
        group: epoch for epoch, group in enumerate(zip(sizes(config.data, images, config.epochs), kinds, strict=True))
    }
    groups: list[Group] = []
    varying: dict[int, int] = {}
    facts: dict[str, Any] = {}
    validation = 0.0
    for size in dict.fromkeys(size for size, _ in epochs):
        ours = {kind: last[(size, kind)] for found, kind in epochs if found == size}
        counts: dict[Any, Count] = {}
        with _rehearsed(config, recipe, images, size, _FEW, torch.device("cpu")) as loop:
            for kind, epoch in ours.items():
                counts[kind] = count(loop, epoch)
            facts = _facts(loop)
        most = max(found.operations for found in counts.values()) / _FEW
        tried = {timed} if timed is not None else {timed_batch(batch, most, device) for batch in batches}
        times: dict[Any, dict[int, float]] = {kind: {} for kind in ours}
        points: dict[int, int] = {}
        if device.type == "cpu":
            points[_FEW] = max(found.saved + found.state["defense"] for found in counts.values())
        for batch in sorted(tried):
            with _rehearsed(config, recipe, images, size, batch, device) as loop:
                for kind, epoch in ours.items():
                    times[kind][batch] = seconds(loop, epoch, pairs)
                if device.type == "cuda":
                    points[batch] = max(extra_on_gpu(loop, epoch) for epoch in ours.values()) + bytes_of(
                        loop.state.defense
                    )
                elif batch == max(tried) and batch != _FEW:
                    found = [count(loop, epoch) for epoch in ours.values()]
                    points[batch] = max(one.saved + one.state["defense"] for one in found)
                if batch == max(tried) and images.validation > 0 and not validation:  # the same in every phase
                    validation = _validation(loop)
        # the size of image at which a step adds the most
        if not varying or at(points, max(batches)) > at(varying, max(batches)):
            varying = points
        groups += [
            Group(
                epochs=epochs[(size, kind)],
                size=size,
                operations=found.operations / _FEW,
                forwards=found.forwards,
                training_forwards=found.training_forwards,
                backwards=found.backwards,
                decisions=found.decisions,
                sums=found.sums,
                summed=found.summed,
                drawn=found.drawn / _FEW,
                largest_draw=found.largest_draw / _FEW,
                seconds=times[kind],
            )
            for kind, found in counts.items()
        ]
    decoded = loader.decode_seconds(max(images.size)) if streamed(config.data) else None
    takes_norm = isinstance(config.defense, (NuAT, NuAT2, NuATHybrid))
    timed_norms = {*joint, *(batch for group in groups for batch in group.seconds)} if joint and takes_norm else ()
    return Measured(
        hardware=hardware.describe(device),
        cpu=device.type == "cpu",
        device_bytes=hardware.memory_bytes()
        if device.type == "cpu"
        else torch.cuda.get_device_properties(device).total_memory,
        groups=tuple(groups),
        varying=varying,
        validation_seconds=validation,
        nuclear_seconds={rows: _nuclear(rows, images.classes, device) for rows in timed_norms},
        decode_seconds=None if decoded is None else decoded[0],
        decode_bytes=None if decoded is None else decoded[1],
        **facts,
    )


def _without_weights(model: ModelConfig, channels: int) -> ModelConfig:
    """Return the settings of the same network with random weights, which cost what any others do.

    Their normalisation costs the same whatever its values are, which would come with the weights.
    """
    if model.weights == "none" or model.mean is not None:
        return replace(model, weights="none")
    return replace(model, weights="none", mean=(0.0,) * channels, std=(1.0,) * channels)


@contextlib.contextmanager
def _rehearsed(
    config: TrainConfig, recipe: str, images: Images, size: tuple[int, int], batch: int, device: torch.device
) -> Iterator[Loop]:
    """Yield a run whose training is in the phase of that size, with two batches of made-up images an epoch.

    Its network and its evaluations are those of ``images.size``, as in the run that is planned.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = made_up(Path(folder), images, size, batch, config.data)
        settings = replace(config, data=data, batch_size=batch, device=str(device), accumulate=1)
        with rehearsal(settings, recipe, device) as loop:
            if streamed(config.data):
                loop.dataset = arrived(loop.dataset, size)
            yield loop


def _facts(loop: Loop) -> dict[str, Any]:
    """Return what is known of the run's network and state after its first steps."""
    norms = [module for module in loop.state.model.modules() if isinstance(module, _NORM)]
    kept = resident(loop)
    state = loop.state.to_dict()
    return {
        "parameters": sum(p.numel() for p in loop.state.model.parameters() if p.requires_grad),
        "norm_layers": len(norms),
        "norm_channels": sum(module.num_features for module in norms),
        "fixed": {name: count for name, count in kept.items() if name != "defense"},
        "checkpoint": bytes_of([state["model"], state["optimizer"], state["average"], state["defense"]]),
        "weights": bytes_of(state["model"]),
    }


def _validation(loop: Loop) -> float:
    """Return the seconds that an image's validation takes, of the live weights and, where there is one, the average."""
    images = loop.dataset.test.select(torch.arange(len(loop.dataset.test)))
    eps, model = loop.config.threat.eps, loop.state.model
    validate(model, images.select(torch.arange(2)), eps=eps, batch_size=2)
    wait(loop.device)
    clock = time.perf_counter()
    validate(model, images, eps=eps, batch_size=loop.config.batch_size)
    wait(loop.device)
    models = 1 if loop.state.average is None else 2
    return models * (time.perf_counter() - clock) / len(images)


def _nuclear(rows: int, classes: int, device: torch.device) -> float:
    """Return the seconds of the value and the gradient of a rows x classes matrix's nuclear norm."""
    a = torch.randn(rows, classes, generator=torch.Generator(device).manual_seed(0), device=device)
    taken = []
    for _ in range(4):
        a = a.detach().requires_grad_()
        wait(device)
        clock = time.perf_counter()
        torch.autograd.backward(nuclear_norm(a))
        wait(device)
        taken.append(time.perf_counter() - clock)
    return statistics.median(taken[1:])
