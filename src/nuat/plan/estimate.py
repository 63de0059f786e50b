"""Cost of a run on N devices, from the cost of its steps: pure arithmetic, whose formulas are in docs/scale.md."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nuat.config import TrainConfig
from nuat.hardware import memory_bytes
from nuat.plan.communication import Link, Traffic, traffic
from nuat.plan.image_facts import ImageFacts
from nuat.plan.step_costs import Phase, StepCosts, at_batch
from nuat.training.validation import LARGEST_SHARE, is_validated

How = Literal["measured", "counted", "computed", "assumed"]
Unit = Literal["images", "operations", "s", "hours", "bytes", "bytes/s", "images/s", "fraction", "processes", "numbers"]

JPEG = 110_000
"""Bytes of an image file, ImageNet's mean, assumed unless files tell."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """Run whose cost is estimated."""

    config: TrainConfig
    """Settings; its batch size is replaced by ``batch``."""
    images: ImageFacts
    """Facts about its images."""
    devices: int
    """Devices N, one process each."""
    batch: int
    """Images M of a batch, over all devices."""
    link: Link
    """Connection of the devices."""
    rate: float | None = None
    """Operations a second of the devices that will be used. None: those of the device here."""

    @property
    def held(self) -> int:
        """Images of the batch that a device holds at most."""
        return math.ceil(self.batch / self.devices)

    @property
    def streamed(self) -> bool:
        """Whether training images are read from files as they are needed."""
        return self.config.data.loading == "stream"


@dataclass(frozen=True)
class Estimate:
    """One number of a plan."""

    label: str
    """Name for people."""
    value: float
    """Number in ``unit``."""
    unit: Unit
    """Unit of the number."""
    how: How
    """measured or counted here, computed from the others, or resting on an assumption."""


def estimate(costs: StepCosts, run: PlannedRun) -> dict[str, Estimate]:
    """Return the estimates of a run by name, in the order of the table; its devices are all of one kind."""
    images, devices, batch, phases = run.images, run.devices, run.batch, costs.phases
    batches = images.train / batch  # the last batch of an epoch costs in proportion
    faster = 1.0 if run.rate is None else run.rate / costs.achieved
    joint = _joint(costs, run) / faster
    sent = [_traffic(costs, run, phase) for phase in phases]
    compute = [_compute(phase, run) for phase in phases]
    talk = [part.seconds(run.link, devices) for part in sent]
    whole = [c + joint + t for c, t in zip(compute, talk, strict=True)]
    epochs = [phase.epochs for phase in phases]
    training = sum(n * batches * s for n, s in zip(epochs, whole, strict=True)) / 3600
    every, total = run.config.validate_every, run.config.epochs
    validated = sum(is_validated(epoch, total, every or 1) for epoch in range(1, total + 1))
    validation = validated * math.ceil(images.validation / devices) * costs.validation_seconds / faster / 3600
    if every is None and costs.device.type == "cuda":
        validation = min(validation, LARGEST_SHARE * training)
    largest = max(sent, key=lambda part: part.total)
    needed = batch / min(whole)  # where images are needed fastest
    operations, own, step = (_mean(of, epochs) for of in ([phase.operations for phase in phases], compute, whole))
    timed: How = "measured" if run.rate is None and all(run.held in p.seconds for p in phases) else "assumed"
    drawn = batch * max(phase.drawn for phase in phases)
    found = {
        "batch": Estimate("images a step, all devices", batch, "images", "computed"),
        "held": Estimate("images a device holds at once", run.held, "images", "computed"),
        "operations": Estimate("operations an image", operations, "operations", "counted"),
        "compute_seconds": Estimate("step: forward, backward, attack, update", own, "s", timed),
        "joint_seconds": Estimate("step: nuclear norms of the global batch, extra", joint, "s", "measured"),
        "communication_seconds": Estimate("step: communication, not hidden", _mean(talk, epochs), "s", "assumed"),
        "step_seconds": Estimate("step", step, "s", "computed"),
        "efficiency": Estimate("share of a step that is one device's own work", own / step, "fraction", "computed"),
        "steps": Estimate("batches an epoch", math.ceil(batches), "numbers", "computed"),
        "training_hours": Estimate("training", training, "hours", "computed"),
        "validation_hours": Estimate("validation", validation, "hours", "computed"),
        "hours": Estimate("hours", training + validation, "hours", "computed"),
        "device_hours": Estimate("device-hours", devices * (training + validation), "hours", "computed"),
        **_memory(costs, run),
        "sent_bytes": Estimate("communication a step, sent by a device", largest.total, "bytes", "computed"),
        "gradient_bytes": Estimate("communication: gradients", largest.gradients, "bytes", "computed"),
        "logit_bytes": Estimate("communication: logits of the global batch", largest.logits, "bytes", "computed"),
        "norm_bytes": Estimate("communication: batch norm", largest.batch_norm, "bytes", "computed"),
        "defense_bytes": Estimate("communication: sums of the defense", largest.defense, "bytes", "computed"),
        "drawn": Estimate("random numbers a device draws a step", drawn, "numbers", "counted"),
        "images_rate": Estimate("images needed, all devices", needed, "images/s", "computed"),
    }  # fmt: skip
    if largest.images > 0:
        found["image_bytes"] = Estimate("communication: images for CutMix", largest.images, "bytes", "computed")
    if run.streamed:
        file_bytes, workers = images.file_bytes or JPEG, math.ceil(needed / devices * costs.decode_seconds)
        found["file_rate"] = Estimate("images: files from storage", needed * file_bytes, "bytes/s", "assumed")
        found["workers"] = Estimate("images: worker processes a device", workers, "processes", "measured")
        found["data_bytes"] = Estimate("disk: image files", images.all * file_bytes, "bytes", "assumed")
    return {**found, **_disk(costs, run)}


def warnings(found: Mapping[str, Estimate], costs: StepCosts, run: PlannedRun) -> list[str]:
    """Return what to know before the money is spent, a line each."""
    told = []
    value = {name: one.value for name, one in found.items()}
    devices, here = run.devices, memory_bytes(costs.device)
    if here is not None and value["memory_bytes"] > 0.9 * here:
        told.append(
            f"a device needs {value['memory_bytes'] / 1e9:.1f} GB; the one here has {here / 1e9:.1f} GB. Give a "
            "smaller --batch-size or more --devices" + ("." if run.streamed else ", or --data.loading stream.")
        )
    cores, together = os.cpu_count() or 1, min(devices, 8)
    if run.streamed and value["workers"] * together > cores:
        told.append(
            f"images are needed faster than this machine decodes them: {value['workers']:.0f} worker processes a "
            f"device, for {together} devices in a machine, and it has {cores} cores. The run would wait for its images."
        )
    if value["efficiency"] < 0.8:
        told.append(
            f"{1 - value['efficiency']:.0%} of a step is communication and joint statistics: fewer devices, a larger "
            "batch or a faster link would pay."
        )
    if devices > 1 and run.held < 16 and run.config.distributed.batch_norm == "device" and costs.norm_layers:
        told.append(
            f"batch norm takes its statistics over the {run.held} images of a device, which is noisy; give "
            "--distributed.batch-norm sync, or use fewer devices."
        )
    return told


def _mean(values: list[float], weights: list[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _compute(phase: Phase, run: PlannedRun) -> float:
    """Return the seconds of a step's own work: at the rate given, or at that of the timed batch nearest to it."""
    per_device = run.batch / run.devices
    return at_batch(phase.seconds, per_device) if run.rate is None else phase.operations * per_device / run.rate


def _traffic(costs: StepCosts, run: PlannedRun, phase: Phase) -> Traffic:
    """Return what a device sends in a step of the phase."""
    config = run.config
    return traffic(
        devices=run.devices,
        parameters=costs.parameters,
        batch=run.batch,
        classes=run.images.classes,
        forwards=phase.forwards,
        training_forwards=phase.training_forwards,
        defense_calls=phase.defense_calls,
        defense_bytes=phase.defense_bytes,
        updates=config.defense.updates_per_batch,
        accumulate=config.accumulate,
        statistics=config.distributed.statistics,
        batch_norm=config.distributed.batch_norm,
        norm_channels=costs.norm_channels,
        norm_layers=costs.norm_layers,
        mixed_pixels=0 if config.data.cutmix is None else run.images.pixels,
    )


def _joint(costs: StepCosts, run: PlannedRun) -> float:
    """Return the seconds by which the norms of the global batch take longer than those of a device's rows."""
    timed = costs.nuclear_seconds
    if run.devices == 1 or run.config.distributed.statistics == "device" or run.batch not in timed:
        return 0.0
    # at most two a step: one in the loss, one in the attack
    return 2.0 * max(0.0, timed[run.batch] - timed[min(timed)])


def _memory(costs: StepCosts, run: PlannedRun) -> dict[str, Estimate]:
    kept = (run.images.validation if run.streamed else run.images.all) * run.images.pixels
    # several devices draw for the whole batch and keep their rows; with one device that is part of the step
    noise = run.batch * max(phase.largest_draw for phase in costs.phases) if run.devices > 1 else 0.0
    added = max(at_batch(phase.added, run.held) for phase in costs.phases)
    measured = all(run.held in phase.added for phase in costs.phases)
    found = {
        "state_bytes": Estimate("memory: weights, optimizer", costs.state_bytes, "bytes", "counted"),
        "average_bytes": Estimate("memory: weight averages", costs.average_bytes, "bytes", "counted"),
        "noise_bytes": Estimate("memory: noise of the whole batch", noise, "bytes", "counted"),
        "activation_bytes": Estimate("memory: added by a step", added, "bytes", "measured" if measured else "computed"),
        "resident_bytes": Estimate("memory: images on the device", kept, "bytes", "counted"),
    }
    return {**found, "memory_bytes": _total("memory a device", found)}


def _disk(costs: StepCosts, run: PlannedRun) -> dict[str, Estimate]:
    path = run.config.data.path
    decoded = path is not None and path.suffix != ".npz" and not run.streamed
    cached = run.images.all * run.images.pixels if decoded else 0
    found = {
        # a checkpoint replaces its predecessor only when it is whole
        "checkpoint_bytes": Estimate("disk: a checkpoint and its successor", 2 * costs.checkpoint, "bytes", "counted"),
        "weights_bytes": Estimate("disk: best and last weights", 2 * costs.weights, "bytes", "counted"),
        "cache_bytes": Estimate("disk: decoded images in the cache", cached, "bytes", "computed"),
    }
    return {**found, "disk_bytes": _total("disk", found)}


def _total(label: str, parts: Mapping[str, Estimate]) -> Estimate:
    return Estimate(label, sum(part.value for part in parts.values()), "bytes", "computed")
