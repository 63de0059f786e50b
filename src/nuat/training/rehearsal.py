"""Steps of a training that is not meant to end, in a folder that goes away, to be timed and counted."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from nuat.config import TrainConfig
from nuat.distributed.world import ALONE, World
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.records.settings import write_config
from nuat.training.run import Loop


@contextlib.contextmanager
def rehearsal(config: TrainConfig, recipe: str, device: torch.device, world: World = ALONE) -> Iterator[Loop]:
    """Yield a run that can take steps; its folder is deleted afterwards."""
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        write_config(folder.config, config, recipe)  # a run that diverges writes to its folder, which must be a run's
        yield Loop(config, folder, recipe, device, Reporter(), world)


def go_to(loop: Loop, epoch: int) -> None:
    """Put a run before the first batch of an epoch, counted from 0."""
    loop.state.epoch, loop.state.batch = epoch, 0
    loop.state.step = epoch * (loop.steps // loop.config.epochs)


def wait(device: torch.device) -> None:
    """Wait until a device has done all the work that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
