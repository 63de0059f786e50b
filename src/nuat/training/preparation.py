"""Prepare a run: images, network, initial weights, and the checks that need them."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nuat import data, hardware, models
from nuat.config import DistributedConfig, TrainConfig
from nuat.core import averaging
from nuat.data import Dataset
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.progress import Reporter
from nuat.records.settings import flat, has_effect, to_json
from nuat.training import compiling, initial_weights


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Images and network of a run, both on its device."""

    dataset: Dataset
    """Images and their split."""
    model: nn.Module
    """Network, in training mode."""
    weights: dict[str, Any] | None
    """Record of the initial weights; None: random ones, or a resumed run."""


def prepare(
    config: TrainConfig, device: torch.device, reporter: Reporter, world: World, *, resumes: bool = False
) -> Prepared:
    """Load the images and build the network of a run.

    Args:
        config: all settings.
        device: where the run computes.
        reporter: hears which initial weights are taken.
        world: the processes that train together.
        resumes: whether the weights come from a checkpoint, so that no initial weights are read.

    Raises:
        InputError: the images, the network, the initial weights, or the processes do not fit together.
    """
    with world.first_of_machine():  # one process downloads, or decodes into the cache, what all then find there
        dataset = data.load(config.data)
    check_agreement(world, config, dataset)
    torch.manual_seed(config.seed)
    network = models.build(
        config.model,
        channels=dataset.channels,
        classes=len(dataset.classes),
        image_size=dataset.image_size,
    )
    weights = None
    if not resumes:
        with world.first_of_machine():
            weights = initial_weights.initialise(
                network,
                config.model,
                channels=dataset.channels,
                image_size=dataset.image_size,
                say=reporter.message,
            )
    if world.size > 1:  # dropout and the like differ from process to process as they do from image to image
        torch.manual_seed((config.seed * world.size + world.rank) % 2**63)
    model: nn.Module = network
    data.check_sizes(model, config.data, dataset.channels)
    _check_batches(model, config, len(dataset.train), world.size)
    dataset = dataset.to(device)
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    if config.distributed.batch_norm == "sync":
        model = models.synchronise_batch_norm(model, world)
    if config.compile:
        if world.size > 1:
            raise InputError(f"compile=true is for one device; this run has {world.size}. Leave compile out.")
        compiling.compile_network(model, device)
    return Prepared(dataset=dataset, model=model.train(), weights=weights)


def _check_batches(model: nn.Module, config: TrainConfig, images: int, devices: int) -> None:
    """Refuse a last batch, or a device's share of one, that is too small for batch norm."""
    with_batch_norm = models.has_batch_norm(model)
    if with_batch_norm:
        data.check_batches(images, config.batch_size)
    if devices > 1:
        alone = with_batch_norm and config.distributed.batch_norm == "device"
        data.check_shares(images, config.batch_size, devices, 2 if alone else 1)


def check_agreement(world: World, config: TrainConfig, dataset: Dataset) -> None:
    """Refuse to train together on different settings, images or versions.

    Raises:
        InputError: on every process; the first difference is named.
    """
    if world.size == 1:
        return
    settings: dict[str, Any] = {k: v for k, v in flat(to_json(config)).items() if has_effect(k, "processes")}
    settings["the training images"] = dataset.train.fingerprint()
    settings["the version of nuat"] = hardware.NUAT_VERSION
    settings["the version of torch"] = hardware.versions()["torch"]
    told = [json.loads(text) for text in world.objects(json.dumps(settings))]
    for rank, theirs in enumerate(told[1:], 1):
        for name in {**told[0], **theirs}:
            if told[0].get(name) != theirs.get(name):
                raise InputError(
                    f"the processes of this run differ: {name} is {_short(told[0].get(name))} on process 0 and "
                    f"{_short(theirs.get(name))} on process {rank}; start all of them with the same command and data."
                )


def _short(value: Any) -> str:
    """Return a value as text, a digest as its first digits."""
    text = str(value)
    return text[:12] if len(text) == 64 else text


def warn(config: TrainConfig, steps: int, reporter: Reporter, world: World) -> None:
    """Say which settings do little or nothing in a run of ``steps`` updates."""
    tau = min(config.averaging.taus, default=0.0)
    if not config.averaging.warmup and tau**steps > 0.1:
        reporter.message(
            f"warning: after all {steps} steps {tau**steps:.0%} of the weight average will still be the initial "
            "weights; give --averaging.warmup true or a smaller --averaging.tau.",
            style="bold yellow",
        )
    cap = averaging.decay(1.0, steps - 1, warmup=True)
    same = [f"{tau:g}" for tau in config.averaging.taus if config.averaging.warmup and tau >= cap]
    if len(same) > 1:
        reporter.message(
            f"warning: averaging.tau: in {steps:,} steps averaging.warmup lets no decay exceed {cap:.4g}, so that "
            f"{', '.join(same)} are the same average; give smaller decays, or one.",
            style="bold yellow",
        )
    if world.size == 1 and config.distributed != DistributedConfig():
        reporter.message("warning: the settings of distributed have no effect on one device.", style="bold yellow")
