"""``nuat plan``."""

import json as jsonlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from nuat import data, hardware, models
from nuat.commands.subject import check_target
from nuat.config import TrainConfig
from nuat.config.arguments import parse
from nuat.errors import InputError
from nuat.files import write_text
from nuat.plan.communication import LINKS
from nuat.plan.estimate import PlannedRun, estimate, warnings
from nuat.plan.image_facts import ImageFacts, image_facts, known_facts
from nuat.plan.presentation import assumptions, plan_table
from nuat.plan.step_costs import measure
from nuat.progress import TerminalReporter, terminal
from nuat.recipes import find, with_pinned_names
from nuat.recipes.lambda_scaling import scale_warnings

_MACHINE = 8
"""Devices of a machine, assumed: that many are connected by NVLink."""


_EVERYDAY = (
    *("--devices", "--per-device", "--images", "--classes", "--image-size", "--epochs", "--batch-size"),
    *("--rate", "--network", "--steps", "--json"),
)
"""Options that ``--help`` shows."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Estimate what a training would cost, from a few steps of it on made-up images. No data is needed.

    Every setting of 'nuat train' can be given, too.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    devices: tuple[int, ...] = (1,)
    """Devices (GPUs, processes) that share the batch, >= 1. Several numbers, such as 1,8,64, give a column each."""
    per_device: int | None = None
    """Images a device, >= 2. The batch then grows with the devices and replaces --batch-size."""
    images: int | None = None
    """Training images of an epoch. None: those of the recipe's data set."""
    classes: int | None = None
    """Classes. None: those of the recipe's data set."""
    image_size: int | None = None
    """Side of the images [pixels]. None: that of the recipe's data set."""
    steps: int = 3
    """Pairs of steps that are timed for each size of image, >= 1."""
    timed_batch: int | None = None
    """Images of a timed step, >= 2. None: as many as a device holds, on a CPU as many as take a few seconds."""
    rate: float | None = None
    """Operations a second that the devices you will use achieve in this training [TFLOP/s]. None: as measured here."""
    network: Literal["auto", "nvlink", "infiniband", "ethernet-100g", "ethernet-10g"] = "auto"
    """Connection of the devices, assumed: 300, 40, 10, 1 GB/s and 5, 10, 30, 50 us. auto: nvlink for up to 8 devices,
    infiniband for more."""
    bandwidth: float | None = None
    """Rate at which a device sends [GB/s]. None: the network's."""
    latency: float | None = None
    """Time of a message between two devices [us]. None: the network's."""
    json: Path | None = None
    """File that the plan is written to as JSON. None: it is only printed."""


def plan(arguments: list[str]) -> int:
    """``nuat plan RECIPE --devices N [--images M] [--any.field VALUE] [--json FILE]``."""
    named = bool(arguments) and not arguments[0].startswith("-")
    if not named and arguments[:1] not in (["-h"], ["--help"], ["--help-all"]):
        raise InputError("give the recipe first: nuat plan RECIPE --devices N; 'nuat recipes' lists them.")
    recipe = arguments[0] if named else ""
    ours = find(recipe or "quickstart")()
    asked = parse(
        _Plan, arguments[named:], prog=f"nuat plan {recipe}".strip(), default=_Plan(config=ours), everyday=_EVERYDAY
    )
    batches = dict(zip(asked.devices, _batches(asked, arguments), strict=True))
    if asked.json is not None:
        check_target(asked.json)
    config = with_pinned_names(asked.config)
    asked = replace(asked, config=config)
    images = image_facts(config.data, images=asked.images, classes=asked.classes, image_size=asked.image_size)
    _check_shares(config, images, batches)
    runs = {n: _planned(asked, images, n, batch) for n, batch in batches.items()}
    console = terminal()
    reporter = TerminalReporter(console)
    reporter.message(
        f"{recipe}: a few steps on {hardware.describe(hardware.resolve(config.device))}; {images.train:,} training "
        f"images of {images.channels} x {images.size[0]} x {images.size[1]}, {images.classes} classes ({images.source})"
    )
    joint = [batch for n, batch in batches.items() if n > 1 and config.distributed.statistics == "global"]
    costs = measure(
        config, recipe, images, batches=[run.held for run in runs.values()], joint=joint, pairs=asked.steps,
        timed=asked.timed_batch,
    )  # fmt: skip
    found = {n: estimate(costs, run) for n, run in runs.items()}
    told = {n: [*warnings(found[n], costs, run), *_scale(ours, run)] for n, run in runs.items()}
    console.print(plan_table(recipe, found))
    lines = assumptions(costs, list(runs.values()))
    for line in lines:
        reporter.message(line)
    for n, of_n in told.items():
        where = f"{n} device{'s' if n > 1 else ''}: " if len(told) > 1 else ""
        for line in of_n:
            reporter.message(f"warning: {where}{line}", style="bold yellow")
    if asked.json is not None:
        values = {
            "format": 1,
            "recipe": recipe,
            "hardware": hardware.describe(costs.device),
            "images": asdict(images),
            "timed_batches": sorted({batch for phase in costs.phases for batch in phase.seconds}),
            "assumptions": lines,
            "plans": [
                {
                    "devices": n,
                    "link": asdict(runs[n].link),
                    "figures": {name: asdict(one) for name, one in of_n.items()},
                    "warnings": told[n],
                }
                for n, of_n in found.items()
            ],
        }
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(asked.json, jsonlib.dumps(values, indent=1) + "\n")
        reporter.message(f"written to {asked.json}")
    return 0


def _batches(asked: _Plan, arguments: list[str]) -> list[int]:
    """Return the global batch for each number of devices; refuse numbers that cannot be."""
    if not asked.devices:
        raise InputError("--devices: give at least one number, such as 8.")
    if len(set(asked.devices)) < len(asked.devices):
        raise InputError(f"--devices {','.join(map(str, asked.devices))}: names a number twice.")
    for name, value, least in (
        ("--per-device", asked.per_device, 2), ("--steps", asked.steps, 1), ("--timed-batch", asked.timed_batch, 2),
        *(("--devices", n, 1) for n in asked.devices),
    ):  # fmt: skip
        if value is not None and value < least:
            raise InputError(f"{name} {value}: expected at least {least}.")
    for name, number in (("--rate", asked.rate), ("--bandwidth", asked.bandwidth), ("--latency", asked.latency)):
        if number is not None and not (0.0 < number < math.inf):
            raise InputError(f"{name} {number:g}: expected a number > 0.")
    if asked.per_device is None:
        return [asked.config.batch_size] * len(asked.devices)
    if any(word.split("=")[0].replace("_", "-") == "--batch-size" for word in arguments):
        raise InputError(
            "--per-device and --batch-size: give one or the other; the first sets the batch by the devices."
        )
    return [asked.per_device * n for n in asked.devices]


def _check_shares(config: TrainConfig, images: ImageFacts, batches: dict[int, int]) -> None:
    """Refuse batches that the devices cannot share in training."""
    with torch.device("meta"):  # only its layers are looked at
        model = models.build(config.model, channels=images.channels, classes=images.classes, image_size=images.size)
    alone = models.has_batch_norm(model) and config.distributed.batch_norm == "device"
    for devices, batch in batches.items():
        if devices > 1:
            data.check_shares(images.train, batch, devices, 2 if alone else 1)
        elif models.has_batch_norm(model):
            data.check_batches(images.train, batch)


def _planned(asked: _Plan, images: ImageFacts, devices: int, batch: int) -> PlannedRun:
    """Return the run on so many devices."""
    link = LINKS[("nvlink" if devices <= _MACHINE else "infiniband") if asked.network == "auto" else asked.network]
    if asked.bandwidth is not None:
        link = replace(link, name=f"{link.name}, its bandwidth as given", bandwidth=asked.bandwidth * 1e9)
    if asked.latency is not None:
        link = replace(link, name=f"{link.name}, its latency as given", latency=asked.latency * 1e-6)
    rate = None if asked.rate is None else asked.rate * 1e12
    return PlannedRun(config=asked.config, images=images, devices=devices, batch=batch, link=link, rate=rate)


def _scale(ours: TrainConfig, run: PlannedRun) -> list[str]:
    """Return the settings that should change where the batch or the classes are not the recipe's."""
    theirs = known_facts(ours.data) or run.images
    before, after = (ours.batch_size, theirs.classes), (run.batch, run.images.classes)
    lam = getattr(run.config.defense, "lam", None) if getattr(run.config.defense, "scale", "") == "batch" else None
    own = lam is not None and lam == getattr(ours.defense, "lam", None)
    return scale_warnings(before, after, lam.peak if lam is not None and own else None)
