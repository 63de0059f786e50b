"""Training: ``run(config)`` trains by settings and writes the run to a folder; ``nuat.training.loop`` is the loop."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nuat import hardware
from nuat.config import TrainConfig
from nuat.distributed.world import ALONE, World, peer_lost
from nuat.errors import InputError
from nuat.files import no_space_left
from nuat.progress import Reporter
from nuat.records.checkpoints import load, read_checkpoint
from nuat.records.folder import RunFolder
from nuat.records.settings import check_same_config
from nuat.training.loop import Loop


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    """Where its files are; see ``nuat.records``."""
    summary: dict[str, Any]
    """Figures of the whole run, as JSON values: the last line of its metrics."""

    def model(self) -> nn.Module:
        """Return the best model, in evaluation mode on the CPU."""
        return load(self.folder)


def run(
    config: TrainConfig,
    *,
    out: Path,
    recipe: str = "custom",
    resume: bool = False,
    reporter: Reporter | None = None,
    world: World = ALONE,
) -> Run:
    """Train by ``config`` and write the run to the folder ``out``.

    Args:
        config: all settings.
        out: a folder that does not exist or is empty; to resume, the folder of the run.
        recipe: name that the record carries.
        resume: go on from the folder's checkpoint to the end: bit for bit on the CPU, on a GPU up to its
            non-deterministic kernels.
        reporter: what is told on the way; none: nothing.
        world: the processes that train together, each calling this; see ``nuat.distributed.world.joined``.

    Raises:
        InputError: a setting, a file or the data cannot be used, or the disk is full.
        RunStopped: an alarm ended the run.
        Interrupted: SIGINT or SIGTERM; the state is saved.
        PeerLostError: another process ended.
    """
    folder, reporter = RunFolder(out), reporter or Reporter()
    device = hardware.resolve(config.device, world.gpu)
    try:
        if resume:
            check_same_config(folder.config, config)
            if world.leads:
                folder.clear_cut_off()
        else:
            folder.check_new()
        loop = Loop(config, folder, recipe, device, reporter, world)
        if resume:
            loop.state.load(read_checkpoint(folder.checkpoint), str(folder.checkpoint), world)
            loop.books.resume()
        else:
            world.wait()  # everybody has seen that the folder is free
            loop.books.start()
            if loop.began_with is not None:
                loop.books.record(loop.began_with)
        return Run(out, loop.run())
    except RuntimeError as error:
        lost = peer_lost(error) if world.size > 1 else None
        if lost is None:
            raise
        raise lost from error
    except OSError as error:
        if not no_space_left(error):
            raise
        follow = (
            f"continue with: nuat train --resume {out}"
            if folder.checkpoint.is_file()
            else "start again with another --out."
        )
        raise InputError(
            f"{out}: no space left on the disk ({error.strerror}). What was written before is whole; free some space "
            f"and {follow}"
        ) from error
