"""``nuat plan``."""

import json as jsonlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from nuat import data, hardware, models
from nuat.config import TrainConfig
from nuat.config.arguments import parse
from nuat.errors import InputError
from nuat.files import write_text
from nuat.plan.communication import LINKS
from nuat.plan.forecast import Asked, Engine, forecast, share, warnings
from nuat.plan.images import Images, classes_of, find, streamed
from nuat.plan.measure import measure
from nuat.plan.scale import scale_warnings
from nuat.plan.table import assumptions, plan_table
from nuat.progress import TerminalReporter
from nuat.recipes import find as find_recipe

_MACHINE = 8
"""Devices of a machine, assumed: so many are connected by NVLink."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Say what a training would cost, from a few steps of it on made-up images; no data is needed.

    Every setting of 'nuat train' can be given, too.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    devices: tuple[int, ...] = (1,)
    """Devices (GPUs, processes) that share the batch, >= 1; several numbers, such as 1,8,64, for a column each."""
    per_device: int | None = None
    """Images a device, >= 2: the batch grows with the devices, in place of --batch-size."""
    images: int | None = None
    """Training images of an epoch; none: those of the recipe's data set."""
    classes: int | None = None
    """Classes; none: those of the recipe's data set."""
    image_size: int | None = None
    """Side of the images [pixels]; none: that of the recipe's data set."""
    steps: int = 3
    """Pairs of steps that are timed for each kind of epoch, >= 1."""
    timed_batch: int | None = None
    """Images of a timed step, >= 2; none: a device's own, on a CPU what takes a few seconds."""
    rate: float | None = None
    """Operations a second that the devices you will use achieve in this training [TFLOP/s]; none: as here."""
    network: Literal["auto", "nvlink", "infiniband", "ethernet-100g", "ethernet-10g"] = "auto"
    """What connects the devices, assumed: 300, 40, 10, 1 GB/s and 5, 10, 30, 50 us. auto: nvlink up to 8, else
    infiniband."""
    bandwidth: float | None = None
    """Rate at which a device sends [GB/s], in place of the network's."""
    latency: float | None = None
    """Time of a message between two devices [us], in place of the network's."""
    json: Path | None = None
    """File of the plan as JSON; none: it is only printed."""


def plan(arguments: list[str]) -> int:
    """``nuat plan RECIPE --devices N [--images M] [--any.field VALUE] [--json FILE]``."""
    if not arguments:
        raise InputError("say which recipe: nuat plan RECIPE --devices N; 'nuat recipes' lists them all.")
    named = not arguments[0].startswith("-")
    recipe = arguments[0] if named else ""
    if not named and arguments[0] not in ("-h", "--help"):
        raise InputError("say the recipe first: nuat plan RECIPE --devices N; 'nuat recipes' lists them all.")
    ours = find_recipe(recipe or "quickstart")()
    asked = parse(_Plan, arguments[named:], prog=f"nuat plan {recipe}".strip(), default=_Plan(config=ours))
    batches = _check(asked, arguments)
    if asked.json is not None and asked.json.is_dir():
        raise InputError(f"--json {asked.json}: is a folder; give a file.")
    config, engine = asked.config, Engine.of(asked.config)
    images = find(config.data, images=asked.images, classes=asked.classes, image_size=asked.image_size)
    _check_shares(config, images, dict(zip(asked.devices, batches, strict=True)))
    held = [share(batch, n) for n, batch in zip(asked.devices, batches, strict=True)]
    console = Console()
    reporter = TerminalReporter(console)
    device = hardware.resolve(config.device)
    reporter.message(
        f"{recipe}: a few steps on {hardware.describe(device)}; {images.train:,} training images of "
        f"{images.channels} x {images.size[0]} x {images.size[1]}, {images.classes} classes ({images.source})"
    )
    joint = [batch for n, batch in zip(asked.devices, batches, strict=True) if n > 1]
    measured = measure(
        config, recipe, images, batches=held, joint=joint if engine.statistics == "global" else (),
        pairs=asked.steps, timed=asked.timed_batch,
    )  # fmt: skip
    questions = {n: _question(asked, engine, images, n, batch) for n, batch in zip(asked.devices, batches, strict=True)}
    found = {n: forecast(measured, question, n) for n, question in questions.items()}
    told = {
        n: [*warnings(found[n], measured, question), *_scale(ours, config, question)]
        for n, question in questions.items()
    }
    console.print(plan_table(recipe, list(found.values())))
    lines = assumptions(measured, list(questions.values()))
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
            "hardware": measured.hardware,
            "images": asdict(images),
            "timed_batches": sorted({batch for group in measured.groups for batch in group.seconds}),
            "assumptions": lines,
            "plans": [
                {
                    "devices": n,
                    "link": asdict(questions[n].link),
                    "figures": {name: asdict(figure) for name, figure in of_n.figures.items()},
                    "warnings": told[n],
                }
                for n, of_n in found.items()
            ],
        }
        write_text(asked.json, jsonlib.dumps(values, indent=1) + "\n")
        reporter.message(f"written to {asked.json}")
    return 0


def _check(asked: _Plan, arguments: list[str]) -> list[int]:
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


def _check_shares(config: TrainConfig, images: Images, batches: dict[int, int]) -> None:
    """Refuse batches that so many devices cannot share in training."""
    with torch.device("meta"):  # its layers alone are looked at
        model = models.build(config.model, channels=images.channels, classes=images.classes, image_size=images.size)
    alone = models.has_batch_norm(model) and config.distributed.batch_norm == "device"
    for devices, batch in batches.items():
        if devices > 1:
            data.check_shares(images.train, batch, devices, 2 if alone else 1)
        elif models.has_batch_norm(model):
            data.check_batches(images.train, batch)


def _question(asked: _Plan, engine: Engine, images: Images, devices: int, batch: int) -> Asked:
    """Return what is planned for so many devices and so large a batch."""
    config = asked.config
    link = LINKS[("nvlink" if devices <= _MACHINE else "infiniband") if asked.network == "auto" else asked.network]
    if asked.bandwidth is not None:
        link = replace(link, name=f"{link.name}, its bandwidth as given", bandwidth=asked.bandwidth * 1e9)
    if asked.latency is not None:
        link = replace(link, name=f"{link.name}, its latency as given", latency=asked.latency * 1e-6)
    stream = streamed(config.data)
    return Asked(
        images=images,
        epochs=config.epochs,
        batch=batch,
        link=link,
        engine=engine,
        updates=config.defense.updates_per_batch,
        rate=None if asked.rate is None else asked.rate * 1e12,
        streamed=stream,
        cached=config.data.path is not None and config.data.path.suffix != ".npz" and not stream,
    )


def _scale(ours: TrainConfig, config: TrainConfig, question: Asked) -> list[str]:
    """Return what changes with a batch or classes that are not the recipe's."""
    classes = question.images.classes
    before, after = (ours.batch_size, classes_of(ours.data) or classes), (question.batch, classes)
    lam = getattr(config.defense, "lam", None)  # NuAT's kinds have it
    own = lam is not None and lam == getattr(ours.defense, "lam", None)
    return scale_warnings(before, after, lam.peak if lam is not None and own else None)
