"""Cost of a step: a few steps of the real training on made-up images, counted and timed on this machine."""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from nuat import hardware
from nuat.config import ModelConfig, TrainConfig
from nuat.core.nuclear import nuclear_norm
from nuat.core.schedules import Constant
from nuat.data.augmentation import resize
from nuat.data.images import ImageSet
from nuat.data.transforms import Draws, TrainingView, training_view
from nuat.plan.counters import CountingWorld, StepCounter, storage_bytes
from nuat.plan.image_facts import ImageFacts, made_up, training_sizes
from nuat.training.graph import EAGER_UPDATES
from nuat.training.rehearsal import go_to, rehearsal, wait
from nuat.training.run import Loop
from nuat.training.validation import validate

_FEW = 2
"""Images a batch where operations are counted."""
_CPU_OPERATIONS = 5e11
"""Operations of the largest batch that a CPU is given to time: a few seconds. Larger ones cost in proportion."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Cost of a step in the epochs that train at one image size, taken in the last of them."""

    epochs: int
    """Number of these epochs."""
    operations: float
    """Operations an image and step; a step is a batch with all its updates."""
    forwards: float
    """Forward passes a step, those of the attack included."""
    training_forwards: float
    """Forward passes a step with batch norm in training mode."""
    defense_calls: float
    """Collective calls a step that the defense makes itself."""
    defense_bytes: float
    """Bytes a step that the defense sums over the processes."""
    drawn: float
    """Random numbers an image and step."""
    largest_draw: float
    """Bytes an image of the largest single draw."""
    nuclear: bool
    """Whether the loss has a nuclear norm."""
    added: Mapping[int, int]
    """Images a batch to the bytes that a step adds, and that the defense keeps."""
    seconds: Mapping[int, float] = field(default_factory=dict)
    """Images a batch to seconds of a step on this machine's device."""


@dataclass(frozen=True, kw_only=True)
class StepCosts:
    """Counts and times of a run's steps, for any number of devices."""

    device: torch.device
    """Device that the steps were timed on."""
    phases: tuple[Phase, ...]
    """Image sizes of the run, in order."""
    parameters: int
    """Trained numbers."""
    norm_layers: int
    """Batch-norm layers."""
    norm_channels: int
    """Channels of all batch-norm layers together."""
    state_bytes: int
    """Bytes of weights, buffers and the optimizer's state."""
    average_bytes: int
    """Bytes of the weight averages, whose networks hold the same tensors. 0: there is none."""
    checkpoint: int
    """Bytes of a checkpoint of the full state."""
    weights: int
    """Bytes of shipped weights."""
    validation_seconds: float
    """Seconds that the validation of an image takes after an epoch, of all models that are validated."""
    nuclear_seconds: Mapping[int, float]
    """Rows to seconds of a nuclear norm's value and gradient. Empty: the loss has none, or sees no global batch."""
    decode_seconds: float
    """Seconds in which a worker decodes a photograph. 0: images are in memory."""

    @property
    def achieved(self) -> float:
        """Operations a second that the device achieved in its best step."""
        return max(phase.operations * batch / s for phase in self.phases for batch, s in phase.seconds.items())


def measure(
    config: TrainConfig,
    recipe: str,
    images: ImageFacts,
    *,
    batches: Sequence[int],
    joint: Sequence[int] = (),
    pairs: int,
    timed: int | None = None,
) -> StepCosts:
    """Rehearse a few steps of a run, and count and time them.

    Args:
        config: settings of the run; steps are timed on its device.
        recipe: name of the run.
        images: shape and number of the images.
        batches: images that a device holds at once, for each number of devices of the plan.
        joint: sizes of the global batch at which a nuclear norm is timed, if the loss has one.
        pairs: pairs of an even and an odd step that are timed.
        timed: images of a timed step. None: ``batches``, on a CPU as many as take a few seconds.
    """
    device = hardware.resolve(config.device)
    # at rate 0 the weights stay as they are, so that none diverge; the optimizer still does all its work
    config = replace(
        config,
        model=_without_weights(config.model, images.channels),
        optimizer=replace(config.optimizer, lr=Constant(peak=0.0), momentum_at_peak=None),
        # without validation images only this monitor may brake; either keeps the same copy
        monitors=replace(
            config.monitors,
            on_nonfinite="skip",
            on_overfitting="warn",
            on_collapse="brake" if config.monitors.brakes else "warn",
        ),
    )
    sizes = training_sizes(config.data, images, config.epochs)
    phases: list[Phase] = []
    facts: dict[str, Any] = {}
    for size in dict.fromkeys(sizes):
        epoch = len(sizes) - 1 - sizes[::-1].index(size)
        with _rehearsed(config, recipe, images, size, _FEW, torch.device("cpu")) as loop:
            phase = count(loop, epoch)
            facts = facts or _facts(loop)
        taken: dict[int, float] = {}
        added: dict[int, int] = {}
        tried = {timed} if timed else {timed_batch(batch, phase.operations, device) for batch in batches}
        for batch in sorted(tried):
            if device.type == "cuda":  # of eager updates: a recording keeps the memory that it needs
                with _rehearsed(replace(config, graph="off"), recipe, images, size, batch, device) as loop:
                    added[batch] = _added_on_gpu(loop, epoch)
            with _rehearsed(config, recipe, images, size, batch, device) as loop:
                taken[batch] = seconds(loop, epoch, pairs)
                added |= {} if device.type == "cuda" else count(loop, epoch).added
                if batch == max(tried) and images.validation > 0 and "validation_seconds" not in facts:
                    facts["validation_seconds"] = _validation(loop)  # it keeps one size throughout the run
        phases.append(replace(phase, epochs=sizes.count(size), seconds=taken, added=added))
    rows = {*joint, *(batch for phase in phases for batch in phase.seconds)} if joint else set()
    return StepCosts(
        device=device,
        phases=tuple(phases),
        nuclear_seconds={n: _nuclear(n, images.classes, device) for n in rows if any(p.nuclear for p in phases)},
        decode_seconds=decode_seconds(max(images.size)) if config.data.loading == "stream" else 0.0,
        **{"validation_seconds": 0.0, **facts},
    )


def timed_batch(batch: int, operations: float, device: torch.device) -> int:
    """Return the images that a step is timed with: a device's batch, on a CPU at most what takes a few seconds.

    ``operations`` is those of an image.
    """
    if device.type == "cuda":
        return max(batch, _FEW)
    return min(max(batch, _FEW), max(4, int(_CPU_OPERATIONS / operations)))


def at_batch(points: Mapping[int, float], images: float) -> float:
    """Return the value for ``images`` images a batch, in proportion to that of the nearest batch in ``points``."""
    nearest = min(points, key=lambda batch: abs(batch - images))
    return points[nearest] * images / nearest


def count(loop: Loop, epoch: int) -> Phase:
    """Take an even and an odd batch of an epoch on the CPU; return the mean of what they do, without times."""
    state, world, batch_size, n = loop.state, loop.world, loop.config.batch_size, loop.batches
    assert isinstance(world, CountingWorld)
    if not state.optimizer.state:  # the first step makes it; it is no part of what a step adds
        _take(loop, epoch)
    world.calls = world.summed = 0
    modes: list[bool] = []
    hook = state.model.register_forward_hook(lambda module, *_: modes.append(module.training))
    state.optimizer.zero_grad()
    with StepCounter() as counter:
        metrics = _take(loop, epoch)
    hook.remove()
    return Phase(
        epochs=1,
        operations=counter.operations / n / batch_size,
        forwards=len(modes) / n,
        training_forwards=sum(modes) / n,
        defense_calls=world.calls / n,
        defense_bytes=world.summed / n,
        drawn=counter.drawn / n / batch_size,
        largest_draw=counter.largest_draw / batch_size,
        nuclear="nuclear" in metrics,
        added={batch_size: counter.peak + storage_bytes(state.defense)},
    )


def _take(loop: Loop, epoch: int) -> set[str]:
    """Take the batches of an epoch; return the names of the metrics that the defense reports."""
    go_to(loop, epoch)
    terms = [loop.train_batches([batch]) for batch in loop.epoch()]
    return {name for one in terms if one is not None for name in one.metrics}


def seconds(loop: Loop, epoch: int, pairs: int) -> float:
    """Return the seconds of a step in an epoch, from the median of ``pairs`` pairs of an even and an odd batch."""
    if loop.recorded is not None:
        for _ in range(EAGER_UPDATES + 1):  # the last one makes the recordings
            _take(loop, epoch)
    return _median_seconds(lambda: _take(loop, epoch), loop.device, pairs) / loop.batches


def _median_seconds(action: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Return the median time of an action, done once before to pay for what only the first time costs."""
    taken = []
    for _ in range(times + 1):
        wait(device)
        clock = time.perf_counter()
        action()
        wait(device)
        taken.append(time.perf_counter() - clock)
    return statistics.median(taken[1:])


def decode_seconds(size: int, times: int = 30) -> float:
    """Return the seconds in which one process decodes a photograph, crops it and resizes it to ``size``.

    The photograph is made up: smooth shades under grain, 375 x 500 pixels and about 110 kB, as ImageNet's are.
    """
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shades = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
    file = io.BytesIO()
    pixels = (shades + draw.normal(0.0, 18.0, (375, 500, 1))).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    encoded, view = file.getvalue(), TrainingView(size=size, crop_scale=0.08, crop_padding=0, flip=True)
    return _median_seconds(
        lambda: training_view(encoded, "the made-up photograph", view, Draws(0, 0, 0)).copy(),
        torch.device("cpu"),
        times,
    )


def _without_weights(model: ModelConfig, channels: int) -> ModelConfig:
    """Return the same network with random weights; the normalisation that weights bring keeps its cost, any values."""
    if model.weights == "none" or model.mean is not None:
        return replace(model, weights="none")
    return replace(model, weights="none", mean=(0.0,) * channels, std=(1.0,) * channels)


@contextlib.contextmanager
def _rehearsed(
    config: TrainConfig, recipe: str, images: ImageFacts, size: tuple[int, int], batch: int, device: torch.device
) -> Iterator[Loop]:
    """Yield a run that trains at ``size``, with two batches of made-up images an epoch.

    Its network and its evaluations are those of ``images.size``, as in the run that is planned.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = made_up(Path(folder), images, size, batch, config.data)
        settings = replace(config, data=data, batch_size=batch, device=str(device), accumulate=1)
        with rehearsal(settings, recipe, device, CountingWorld()) as loop:
            if config.data.loading == "stream":
                every = loop.dataset.train.select(torch.arange(2 * batch))  # a worker has resized it
                train = ImageSet(resize(every.images, min(size)), every.labels)
                loop.dataset = replace(loop.dataset, train=train)
            yield loop


def _facts(loop: Loop) -> dict[str, Any]:
    """Return the figures of the run's network and state, after its first steps."""
    state, whole = loop.state, loop.state.to_dict()
    model = state.model
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    weights = storage_bytes(whole["model"])
    return {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "norm_layers": len(norms),
        "norm_channels": sum(module.num_features for module in norms),
        "state_bytes": weights + storage_bytes(dict(state.optimizer.state)),
        "average_bytes": storage_bytes(state.averages),
        "checkpoint": storage_bytes([whole.get(name) for name in ("model", "optimizer", "average", "defense", "good")]),
        "weights": weights,
    }


def _added_on_gpu(loop: Loop, epoch: int) -> int:
    """Return the bytes that a step adds to what stays on the GPU between steps, and that the defense keeps."""
    _take(loop, epoch)
    loop.state.optimizer.zero_grad()
    wait(loop.device)
    torch.cuda.reset_peak_memory_stats(loop.device)
    before = torch.cuda.memory_allocated(loop.device)
    _take(loop, epoch)
    wait(loop.device)
    return torch.cuda.max_memory_allocated(loop.device) - before + storage_bytes(loop.state.defense)


def _validation(loop: Loop) -> float:
    """Return the seconds that an image's validation takes, of the live weights and of each average."""
    images = loop.dataset.test.select(torch.arange(len(loop.dataset.test)))
    config, models = loop.config, 1 + len(loop.state.averages)
    how: dict[str, Any] = {"threat": config.threat, "attack": config.validate_attack, "batch_size": config.batch_size}
    once = _median_seconds(lambda: validate(loop.state.model, images, **how), loop.device, 1)
    return models * once / len(images)


def _nuclear(rows: int, classes: int, device: torch.device) -> float:
    """Return the seconds of the value and the gradient of the nuclear norm of a rows x classes matrix."""
    a = torch.randn(rows, classes, generator=torch.Generator(device).manual_seed(0), device=device)
    return _median_seconds(lambda: torch.autograd.backward(nuclear_norm(a.detach().requires_grad_())), device)
