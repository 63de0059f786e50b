"""The training loop: ``run(config)`` trains by settings and writes the run to a folder.

For each batch ``defense.loss`` returns a loss, the optimizer follows its gradient, and the weight average follows the
optimizer (``nuat.training.update``). Validation, monitors, the record and the checkpoint come after each epoch
(``nuat.training.bookkeeping``). With several devices every process runs this loop on its share of the images
(``nuat.distributed.world``), and the first one writes.
"""

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nuat import data, hardware
from nuat.config import TrainConfig
from nuat.data import Batch
from nuat.defenses import BatchLoss
from nuat.distributed.world import ALONE, World, peer_lost
from nuat.errors import InputError, NonFiniteError
from nuat.files import no_space_left
from nuat.progress import Reporter
from nuat.records.checkpoints import load, read_checkpoint
from nuat.records.folder import RunFolder
from nuat.records.settings import check_same_config
from nuat.training import compiling, monitors
from nuat.training.bookkeeping import Bookkeeper
from nuat.training.capture import cuda_capture
from nuat.training.graph import recorded_updates
from nuat.training.preparation import prepare, warn
from nuat.training.recorded_images import RecordedImages
from nuat.training.signals import Interrupted, StopRequest
from nuat.training.soft_labels import softened
from nuat.training.state import TrainingState
from nuat.training.tensorboard import TensorBoard
from nuat.training.trackers import Tracker, Tracking, numbers
from nuat.training.update import NONFINITE, Updater

_ASK_EVERY = 100
"""Updates after which several processes ask the device whether it skipped any."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    """Folder of its files; see ``nuat.records``."""
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
    trackers: Sequence[Tracker] | Tracking | None = None,
    world: World = ALONE,
) -> Run:
    """Train by ``config`` and write the run to the folder ``out``.

    Args:
        config: all settings.
        out: a folder that does not exist or is empty; to resume, the folder of the run.
        recipe: name in the record.
        resume: go on from the folder's checkpoint to the end: bit for bit on the CPU, on a GPU up to its
            non-deterministic kernels.
        reporter: hears the progress; None: nothing is said.
        trackers: objects that follow the run, see ``nuat.Tracker``; or an entered ``Tracking``, whose owner
            adds results and closes it. None: TensorBoard.
        world: the processes that train together, each of which calls this; see ``nuat.distributed.world.joined``.

    Raises:
        InputError: a setting, a file or the data cannot be used, or the disk is full.
        RunStopped: an alarm ended the run.
        Interrupted: SIGINT or SIGTERM; the state is saved.
        PeerLostError: another process ended.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from pathlib import Path
        >>> import nuat
        >>> from nuat.recipes import find
        >>> config = find("quickstart")()
        >>> config = replace(config, epochs=1, data=replace(config.data, train_limit=100))
        >>> finished = nuat.run(config, out=Path(tempfile.mkdtemp()) / "run")
        >>> finished.summary["epochs"]
        1
        >>> finished.model().training
        False
    """
    folder, reporter = RunFolder(out), reporter or Reporter()
    device = hardware.resolve(config.device, world.gpu)
    with _clear_errors(folder, world), contextlib.ExitStack() as held:
        if resume:
            check_same_config(folder.config, config)
            if world.leads:
                held.enter_context(folder.locked())
                folder.clear_cut_off()
        else:
            folder.check_new()
        loop = Loop(config, folder, recipe, device, reporter, world)
        state, books = loop.state, loop.books
        if resume:
            state.load(read_checkpoint(folder.checkpoint), str(folder.checkpoint), world)
            books.resume()
        else:
            world.wait()  # everybody has seen that the folder is free
            if world.leads:
                folder.create()
                held.enter_context(folder.locked())
                folder.check_new()  # again: another process may have been here first
            books.start(loop.weights)
        held.callback(books.close)  # after the lock was taken, so that it is held until the last file is written
        if isinstance(trackers, Tracking):
            tracking = trackers
        else:
            chosen = [TensorBoard()] if trackers is None else trackers
            tracking = held.enter_context(Tracking(chosen, reporter, world))
        if tracking:
            tracking.start(books.tracked())
        with loop.progress(), StopRequest() as stop:
            while state.epoch < config.epochs:
                loop.train_epoch(stop)
                books.finish_epoch(tracking)
                stopped = world.any(stop.signal_number is not None)
                last = state.epoch == config.epochs
                if stopped or last or state.epoch % config.checkpoint_every == 0:
                    books.checkpoint(now=stopped or last)
                if stopped:
                    raise loop.interrupted(stop)
        figures: dict[str, Any] = {"compile_seconds": compiling.seconds()} if config.compile else {}
        if loop.recorded is not None:
            figures["repeated_updates"] = loop.recorded.repeated
        summary = books.finish(loop.batches, figures)
        if tracking:
            tracking.results |= {f"final/{name}": value for name, value in numbers(summary).items()}
            tracking.pictures |= books.pictures()
        return Run(out, summary)


class Loop:
    """The parts of a run, and the steps that they take together."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        recipe: str,
        device: torch.device,
        reporter: Reporter,
        world: World = ALONE,
    ) -> None:
        self.config, self.folder, self.device, self.world = config, folder, device, world
        self.reporter = reporter = reporter if world.leads else Reporter()
        prepared = prepare(config, device, reporter, world, resumes=folder.checkpoint.is_file())
        self.dataset, self.weights = prepared.dataset, prepared.weights
        self.batches = -(-len(self.dataset.train) // config.batch_size)
        self.replays = config.defense.updates_per_batch
        self.steps = config.epochs * -(-self.batches // config.accumulate) * self.replays
        self.state = TrainingState.start(config, prepared.model, device)
        self.books = Bookkeeper(config, recipe, folder, self.dataset, self.state, reporter, world)
        self.updater = Updater(config, self.state, world, steps=self.steps, batches=self.batches)
        self.recorded = recorded_updates(
            config, self.state, self.updater, world, tell=lambda why: self._tell_eager("updates", why)
        )
        self.images: RecordedImages | None = None
        if self.recorded is not None:
            self.images = RecordedImages(
                self.state.generator,
                config.batch_size,
                capture=cuda_capture(),
                tell=lambda why: self._tell_eager("the augmentation", why),
            )
        warn(config, self.steps, reporter, world)

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Show the progress of training."""
        self.reporter.begin("training", self.steps, self.state.step)
        try:
            yield
        finally:
            self.reporter.end()

    def train_epoch(self, stop: StopRequest) -> None:
        """Train on the batches that are left of the present epoch.

        Raises:
            Interrupted: ``stop`` was requested; the state is saved.
        """
        config, state = self.config, self.state
        clock, told = time.perf_counter(), 0.0
        every = config.checkpoint_batches
        stream = self.epoch()
        while batches := self._next(stream):
            step = state.step
            terms = self.train_batches(batches)
            now = time.perf_counter()
            state.seconds, clock = state.seconds + now - clock, now
            if terms is not None:
                self.reporter.step(state.step, dict(terms.metrics))
            if self.world.size > 1 and state.step // _ASK_EVERY > step // _ASK_EVERY:
                self._tell_skipped()  # by a count, because each process has a clock of its own
            if now - told > 0.5:  # reading the loss waits for the device
                if self.world.size == 1:
                    self._tell_skipped()
                loss = f"loss {float(terms.loss):.3f}" if terms is not None else ""
                self.reporter.advance(state.step, f"epoch {state.epoch + 1}/{config.epochs} {loss} {self.books.status}")
                told = now
            stopped = self.world.any(stop.signal_number is not None)
            if stopped or (every is not None and state.batch // every > (state.batch - len(batches)) // every):
                self._tell_skipped()
                state.seconds += time.perf_counter() - clock  # work that the device still had to do is training, too
                self.books.checkpoint(now=stopped)
                clock = time.perf_counter()
            if stopped:
                raise self.interrupted(stop)
        self._tell_skipped()
        state.seconds += time.perf_counter() - clock

    def _next(self, stream: Iterator[Batch]) -> list[Batch]:
        """Return the batches of the next update."""
        try:
            return list(itertools.islice(stream, self.config.accumulate))
        except InputError as error:  # an image that cannot be read may be this process's alone
            error.of_this_process = True
            raise

    def epoch(self) -> Iterator[Batch]:
        """Yield the batches that are left of the present epoch."""
        config, state = self.config, self.state
        size = config.data.size_at(state.epoch, config.epochs)
        batches = data.epoch_batches(
            self.dataset.train,
            config.batch_size,
            order_seed=config.seed,
            epoch=state.epoch,
            crop_padding=config.data.crop_padding,
            crop_scale=config.data.crop_scale,
            flip=config.data.flip,
            generator=state.generator,
            size=size,
            start=state.batch,
            channels_last=config.channels_last,
            rank=self.world.rank,
            ranks=self.world.size,
            repeat=None if self.images is None else self.images.at_size(size),
        )
        return softened(batches, config, len(self.dataset.classes), state.generator, self.world)

    def train_batches(self, batches: Sequence[Batch]) -> BatchLoss | None:
        """Update the weights on batches that share an update: once, or as often as the defense replays them.

        Returns:
            The terms of the last batch; None where the update was skipped.
        """
        state = self.state
        found: Sequence[BatchLoss] = ()
        for _ in range(self.replays):
            try:
                with hardware.autotuned(self.device):
                    found = (self.recorded or self.updater).update(batches)
            except NonFiniteError as error:
                found = ()
                alarm = monitors.nonfinite(self.config.monitors, str(error), state.epoch, state.batch)
                self.books.alarm(alarm, state.epoch + 1)
            for event in (event for terms in found for event in terms.events):
                self.books.record(event)
            state.step += 1
        state.batch += len(batches)
        return found[-1] if found else None

    def _tell_eager(self, what: str, reason: str) -> None:
        """Say and record why something is not repeated as CUDA graphs."""
        self.books.record({"kind": "eager", "what": what, "reason": reason})
        self.reporter.message(f"not as CUDA graphs but eagerly: {what}: {reason}.", style="bold yellow")

    def _tell_skipped(self) -> None:
        """Raise the alarms of updates that the device skipped, before their epoch is kept."""
        for where in self.updater.skipped():
            alarm = monitors.nonfinite(self.config.monitors, NONFINITE, where.epoch, where.batch)
            self.books.alarm(alarm, where.epoch + 1)

    def interrupted(self, stop: StopRequest) -> Interrupted:
        """Return the error that ends a run whose state has been saved on request."""
        self.world.wait()  # a process that is gone may take the others with it, and the first has just written
        return Interrupted(
            self.world.agree(stop.signal_number or signal.SIGTERM),
            f"stopped after epoch {self.state.epoch}, batch {self.state.batch}; the state is saved. "
            f"Continue with: nuat train --resume {self.folder.path}",
        )


@contextlib.contextmanager
def _clear_errors(folder: RunFolder, world: World) -> Iterator[None]:
    """Raise an InputError for a full disk or a removed folder, and a PeerLostError for a lost process."""
    try:
        yield
    except RuntimeError as error:
        lost = peer_lost(error) if world.size > 1 else None
        if lost is None:
            raise
        raise lost from error
    except FileNotFoundError as error:
        if folder.path.is_dir():
            raise
        raise folder.gone() from error
    except OSError as error:
        if not no_space_left(error):
            raise
        follow = (
            f"continue with: nuat train --resume {folder.path}"
            if folder.checkpoint.is_file()
            else "start again with another --out."
        )
        raise InputError(
            f"{folder.path}: no space left on the disk ({error.strerror}). What was written before is whole; free some "
            f"space and {follow}"
        ) from error
