"""From what was measured to what a run costs on N devices: pure arithmetic, whose formulas are in docs/scale.md."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nuat.config import TrainConfig
from nuat.plan.communication import BatchNorm, Link, Statistics, Traffic, traffic
from nuat.plan.images import Images
from nuat.plan.measure import Group, Measured
from nuat.plan.memory import at

How = Literal["measured", "counted", "computed", "assumed"]
Unit = Literal["images", "operations", "s", "hours", "bytes", "bytes/s", "images/s", "fraction", "processes", "numbers"]

RECORD = 1_000
"""Bytes of an epoch's line in the record, assumed; its curves and figures add ``FIGURES``."""
FIGURES = 2_000_000
JPEG = 110_000
"""Bytes of an ImageNet image's file, assumed where no file tells."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How the run is spread over devices."""

    statistics: Statistics = "global"
    """Whether losses see the logits of the global batch, or of the device's rows."""
    batch_norm: BatchNorm = "device"
    """Whether batch norm takes the statistics of a device's rows, or of the global batch."""
    accumulate: int = 1
    """Batches of an update."""

    @classmethod
    def of(cls, config: TrainConfig) -> "Engine":
        """Return what the settings say."""
        told = config.distributed
        return cls(statistics=told.statistics, batch_norm=told.batch_norm, accumulate=config.accumulate)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is planned, but for the number of devices."""

    images: Images
    epochs: int
    batch: int
    """M, images of a batch over all devices."""
    link: Link
    engine: Engine = field(default_factory=Engine)
    updates: int = 1
    """Updates of the weights that each batch gives."""
    rate: float | None = None
    """Operations a second of the devices that will be used; none: that of the device here."""
    streamed: bool = False
    """Whether training images are read as they are needed; otherwise all images lie on every device. Those of the
    validation do in any case."""
    cached: bool = False
    """Whether decoded images are kept on the disk."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a plan."""

    label: str
    """What it is, for people."""
    value: float
    unit: Unit
    how: How
    """measured here, counted, computed from the others, or resting on an assumption."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The plan of a run on ``devices`` devices."""

    devices: int
    figures: Mapping[str, Figure]
    """By name."""

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value


def share(batch: int, devices: int) -> int:
    """Return the images of a global batch of M that a device holds, at most."""
    return math.ceil(batch / devices)


def forecast(measured: Measured, asked: Asked, devices: int) -> Forecast:
    """Return the figures of a run on ``devices`` devices of one kind."""
    images = asked.images
    held = share(asked.batch, devices)
    steps = images.train / asked.batch  # the last batch of an epoch costs in proportion
    achieved = max(g.operations * b / s for g in measured.groups for b, s in g.seconds.items())
    faster = 1.0 if asked.rate is None else asked.rate / achieved
    per_device = asked.batch / devices
    how: How = "measured" if asked.rate is None and all(held in g.seconds for g in measured.groups) else "assumed"
    sent = [_traffic(measured, asked, devices, g) for g in measured.groups]
    epochs = [g.epochs for g in measured.groups]
    compute = [
        g.operations * per_device / asked.rate if asked.rate is not None else _seconds(g.seconds, held, per_device)
        for g in measured.groups
    ]
    joint = _joint(measured, asked, devices) / faster
    talk = [part.seconds(asked.link, devices) for part in sent]
    whole = [c + joint + t for c, t in zip(compute, talk, strict=True)]
    train_hours = sum(e * steps * s for e, s in zip(epochs, whole, strict=True)) / 3600
    validated = asked.epochs * math.ceil(images.validation / devices) * measured.validation_seconds / faster / 3600
    quickest = min(whole)  # when images are needed fastest
    drawn = max(g.drawn for g in measured.groups)
    memory = _memory(measured, asked, devices, held)
    disk = _disk(measured, asked)
    largest = max(sent, key=lambda part: part.total)
    needed = asked.batch / quickest
    pixels = max(
        per_device / s * images.channels * math.prod(g.size) for g, s in zip(measured.groups, whole, strict=True)
    )
    file_bytes = images.file_bytes or (measured.decode_bytes if asked.streamed else None) or JPEG
    rows: list[tuple[str, str, float, Unit, How]] = [
        ("batch", "images a step, all devices", asked.batch, "images", "computed"),
        ("held", "images a device holds at once", held, "images", "computed"),
        (
            "operations",
            "operations an image",
            _mean([g.operations for g in measured.groups], epochs),
            "operations",
            "counted",
        ),
        ("compute_seconds", "step: forward, backward, attack, update", _mean(compute, epochs), "s", how),
        ("joint_seconds", "step: norms of the global batch, in addition", joint, "s", "measured"),
        ("communication_seconds", "step: communication, none of it hidden", _mean(talk, epochs), "s", "assumed"),
        ("step_seconds", "step", _mean(whole, epochs), "s", "computed"),
        (
            "efficiency",
            "part of it that is one device's work",
            _mean(compute, epochs) / _mean(whole, epochs),
            "fraction",
            "computed",
        ),
        ("steps", "batches an epoch", math.ceil(steps), "numbers", "computed"),
        ("training_hours", "training", train_hours, "hours", "computed"),
        ("validation_hours", "validation after each epoch", validated, "hours", "computed"),
        ("hours", "hours", train_hours + validated, "hours", "computed"),
        ("device_hours", "device-hours", devices * (train_hours + validated), "hours", "computed"),
        *memory,
        ("sent_bytes", "communication a step, sent by a device", largest.total, "bytes", "computed"),
        ("gradient_bytes", "of it: gradients", largest.gradients, "bytes", "computed"),
        ("logit_bytes", "of it: logits of the global batch", largest.logits, "bytes", "computed"),
        ("norm_bytes", "of it: batch norm", largest.batch_norm, "bytes", "computed"),
        ("defense_bytes", "of it: what the defense sums", largest.defense, "bytes", "computed"),
        ("drawn", "random numbers a device draws a step", asked.batch * drawn, "numbers", "counted"),
        ("images_rate", "images needed, all devices", needed, "images/s", "computed"),
        ("pixel_rate", "of them onto a device, uint8", pixels, "bytes/s", "computed"),
    ]
    if asked.streamed:
        rows += [
            ("file_rate", "of them from storage, all devices", needed * file_bytes, "bytes/s", "assumed"),
            ("workers", "worker processes a device", math.ceil(needed / devices * (measured.decode_seconds or 0.0)),
             "processes", "measured"),
        ]  # fmt: skip
    rows += disk
    if asked.streamed:
        rows.append(("data_bytes", "disk: image files", images.all * file_bytes, "bytes", "assumed"))
    figures = {
        name: Figure(label=label, value=float(value), unit=unit, how=found) for name, label, value, unit, found in rows
    }
    return Forecast(devices=devices, figures=figures)


def warnings(found: Forecast, measured: Measured, asked: Asked) -> list[str]:
    """Return what should be known before the money is spent, a line each."""
    told = []
    memory, here = found["memory_bytes"], measured.device_bytes
    if here is not None and memory > 0.9 * here:
        told.append(
            f"a device needs {memory / 1e9:.1f} GB; the one here has {here / 1e9:.1f} GB. Give a smaller --batch-size "
            "or more --devices" + ("." if asked.streamed else ", or read the images as they are needed.")
        )
    cores = os.cpu_count() or 1
    beside = min(found.devices, 8)
    if asked.streamed and found["workers"] * beside > cores:
        told.append(
            f"images are needed faster than this machine decodes: {found['workers']:.0f} worker processes a device, "
            f"for {beside} devices in a machine, and it has {cores} cores. The run would wait for its images."
        )
    if found["efficiency"] < 0.8:
        told.append(
            f"{1 - found['efficiency']:.0%} of a step is communication and joint statistics: fewer devices, a larger "
            "batch or a faster link would pay."
        )
    if found.devices > 1 and found["drawn"] > 1e9:
        told.append(
            f"every device draws the noise of the whole batch, {found['drawn'] / 1e9:.1f} billion numbers a step and "
            f"{found['noise_bytes'] / 1e9:.1f} GB at once, so that any number of devices gives the same run."
        )
    if found["held"] < 16 and asked.engine.batch_norm == "device" and measured.norm_layers and found.devices > 1:
        told.append(
            f"batch norm takes its statistics over the {found['held']:.0f} images of a device: noisy; synchronise it, "
            "or use fewer devices."
        )
    return told


def _mean(values: list[float], weights: list[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _seconds(timed: Mapping[int, float], held: int, images: float) -> float:
    """Return the seconds of ``images`` images at the rate of the timed batch that is nearest to ``held``."""
    nearest = min(timed, key=lambda batch: abs(batch - held))
    return timed[nearest] * images / nearest


def _traffic(measured: Measured, asked: Asked, devices: int, group: Group) -> Traffic:
    """Return what a device sends in a step of such epochs."""
    return traffic(
        devices=devices,
        parameters=measured.parameters,
        batch=asked.batch,
        classes=asked.images.classes,
        forwards=group.forwards,
        training_forwards=group.training_forwards,
        decisions=group.decisions,
        sums=group.sums,
        summed=group.summed,
        updates=asked.updates,
        accumulate=asked.engine.accumulate,
        statistics=asked.engine.statistics,
        batch_norm=asked.engine.batch_norm,
        norm_channels=measured.norm_channels,
        norm_layers=measured.norm_layers,
    )


def _joint(measured: Measured, asked: Asked, devices: int) -> float:
    """Return the seconds by which the norms of the global batch take longer than those of a device's rows."""
    timed = measured.nuclear_seconds
    if devices == 1 or asked.engine.statistics == "device" or asked.batch not in timed:
        return 0.0
    # at most two a step: one in the loss, one in the attack
    return 2.0 * max(0.0, timed[asked.batch] - timed[min(timed)])


def _memory(measured: Measured, asked: Asked, devices: int, held: int) -> list[tuple[str, str, float, Unit, How]]:
    fixed = measured.fixed
    averages = fixed["averages"]
    state = fixed["weights"] + fixed["buffers"] + fixed["gradients"] + fixed["optimizer"]
    # with several devices each draws for the whole batch and keeps its rows; with one that is part of the step
    noise = asked.batch * max(g.largest_draw for g in measured.groups) if devices > 1 else 0.0
    step = at(measured.varying, held)
    # streamed training leaves the validation's images there
    data = (asked.images.validation if asked.streamed else asked.images.all) * asked.images.pixels
    note = ", without workspace" if measured.cpu else ""
    exact: How = "measured" if held in measured.varying else "computed"
    return [
        ("state_bytes", "memory: weights, gradients, optimizer", state, "bytes", "counted"),
        ("average_bytes", "memory: weight averages", averages, "bytes", "counted"),
        ("noise_bytes", "memory: noise of the whole batch", noise, "bytes", "counted"),
        ("activation_bytes", f"memory: what a step adds{note}", step, "bytes", exact),
        ("resident_bytes", "memory: images on the device", data, "bytes", "counted"),
        ("memory_bytes", "memory a device", state + averages + noise + step + data, "bytes", "computed"),
    ]


def _disk(measured: Measured, asked: Asked) -> list[tuple[str, str, float, Unit, How]]:
    records = asked.epochs * RECORD + FIGURES
    # a new checkpoint takes the old one's place only when it is whole; weights: the best and the last
    checkpoints, weights = 2 * measured.checkpoint, 2 * measured.weights
    decoded = asked.images.all * asked.images.pixels if asked.cached else 0
    return [
        ("checkpoint_bytes", "disk: checkpoint, and the next beside it", checkpoints, "bytes", "counted"),
        ("weights_bytes", "disk: best and last weights", weights, "bytes", "counted"),
        ("record_bytes", "disk: records and figures", records, "bytes", "assumed"),
        ("cache_bytes", "disk: decoded images in the cache", decoded, "bytes", "computed"),
        ("disk_bytes", "disk", checkpoints + weights + records + decoded, "bytes", "computed"),
    ]
