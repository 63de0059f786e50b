"""The one training loop.

For each batch ``defense.loss`` makes a loss of it, the optimizer follows the gradient, the weight average follows the
optimizer (``nuat.training.update``). After each epoch come validation, monitors, the record and the checkpoint
(``nuat.training.bookkeeping``). On several devices every process runs this loop on its images
(``nuat.distributed.world``), and the first one writes.
"""

import itertools
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from nuat import data, models
from nuat.config import DistributedConfig, TrainConfig
from nuat.core.pass_counter import PassCounter
from nuat.data import Batch
from nuat.defenses import BatchLoss
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError, NonFiniteError
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training import agreement, compiling, initial_weights, monitors
from nuat.training.bookkeeping import Bookkeeper
from nuat.training.signals import Interrupted, StopRequest
from nuat.training.state import TrainingState
from nuat.training.tensorboard import Curves
from nuat.training.update import NONFINITE, Updater

_TELL_EVERY = 100
"""Updates after which several processes ask the device whether it skipped any."""


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
        with world.first_of_machine():  # one downloads, or decodes into the cache, what all then find there
            dataset = data.load(config.data)
        agreement.check(world, config, dataset)
        torch.manual_seed(config.seed)
        network = models.build(
            config.model,
            channels=dataset.channels,
            classes=len(dataset.classes),
            image_size=dataset.image_size,
        )
        self.began_with = None
        if not folder.checkpoint.is_file():  # a run that goes on has its weights there
            with world.first_of_machine():
                self.began_with = initial_weights.initialise(
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
        self._check_batches(model, len(dataset.train))
        self.dataset = dataset.to(device)
        self.batches = -(-len(self.dataset.train) // config.batch_size)
        self.replays = config.defense.updates_per_batch
        model.to(device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        if config.distributed.batch_norm == "sync":
            model = models.synchronise_batch_norm(model, world)
        if config.compile:
            if world.size > 1:
                raise InputError(f"compile=true is for one device; this run has {world.size}. Leave compile out.")
            compiling.compile_network(model, device)
        self.state = TrainingState.start(config, model.train(), device)
        self.books = Bookkeeper(config, recipe, folder, self.dataset, self.state, reporter, world)
        self.steps = config.epochs * -(-self.batches // config.accumulate) * self.replays
        self.updater = Updater(config, self.state, world, steps=self.steps, batches=self.batches)
        self._warn()

    def _check_batches(self, model: nn.Module, n: int) -> None:
        config, devices = self.config, self.world.size
        with_batch_norm = models.has_batch_norm(model)
        if with_batch_norm:
            data.check_batches(n, config.batch_size)
        if devices > 1:
            alone = with_batch_norm and config.distributed.batch_norm == "device"
            data.check_shares(n, config.batch_size, devices, 2 if alone else 1)

    def _warn(self) -> None:
        """Say which settings do little or nothing."""
        config, (tau, steps) = self.config, (self.config.averaging.tau, self.steps)
        if tau is not None and not config.averaging.warmup and tau**steps > 0.1:
            self.reporter.message(
                f"warning: after all {steps} steps {tau**steps:.0%} of the weight average will still be the initial "
                "weights; give --averaging.warmup true or a smaller --averaging.tau.",
                style="bold yellow",
            )
        if self.world.size == 1 and config.distributed != DistributedConfig():
            self.reporter.message(
                "warning: the settings of distributed have no effect on one device.", style="bold yellow"
            )

    def run(self) -> dict[str, Any]:
        """Do the epochs that are left, and return the figures of the whole run."""
        state, epochs = self.state, self.config.epochs
        curves = Curves(self.folder.tensorboard, state.epoch) if self.world.leads else None
        self.reporter.begin("training", self.steps, state.step)
        try:
            with StopRequest() as stop:
                while state.epoch < epochs:
                    self._train_epoch(stop)
                    self.books.finish_epoch(curves)
                    stopped = self.world.any(stop.signal_number is not None)
                    if stopped or state.epoch % self.config.checkpoint_every == 0 or state.epoch == epochs:
                        self.books.checkpoint()
                    if stopped:
                        raise self._interrupted(stop)
        finally:
            self.reporter.end()
            if curves is not None:
                curves.close()
        took = {"compile_seconds": compiling.seconds()} if self.config.compile else {}
        return self.books.finish(self.batches, took)

    def _train_epoch(self, stop: StopRequest) -> None:
        """Do the batches of the present epoch that are left."""
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
            if self.world.size > 1 and state.step // _TELL_EVERY > step // _TELL_EVERY:
                self._tell_skipped()  # by a count, because each process has a clock of its own
            if now - told > 0.5:  # reading the loss waits for the device
                if self.world.size == 1:
                    self._tell_skipped()
                loss = f"loss {float(terms.loss.detach()):.3f}" if terms is not None else ""
                self.reporter.advance(state.step, f"epoch {state.epoch + 1}/{config.epochs} {loss} {self.books.status}")
                told = now
            stopped = self.world.any(stop.signal_number is not None)
            if stopped or (every is not None and state.batch // every > (state.batch - len(batches)) // every):
                self._tell_skipped()
                state.seconds += time.perf_counter() - clock  # what the device had yet to do is the training's, too
                self.books.checkpoint()
                clock = time.perf_counter()
            if stopped:
                raise self._interrupted(stop)
        self._tell_skipped()
        state.seconds += time.perf_counter() - clock

    def _next(self, stream: Iterator[Batch]) -> list[Batch]:
        """Return the batches of the next update; an image that cannot be read may be this process's alone."""
        try:
            return list(itertools.islice(stream, self.config.accumulate))
        except InputError as error:
            error.of_this_process = True
            raise

    def epoch(self) -> Iterator[Batch]:
        """Yield the batches of the present epoch that are left."""
        config, state = self.config, self.state
        return data.epoch_batches(
            self.dataset.train,
            config.batch_size,
            order_seed=config.seed,
            epoch=state.epoch,
            crop_padding=config.data.crop_padding,
            crop_scale=config.data.crop_scale,
            flip=config.data.flip,
            generator=state.generator,
            size=config.data.size_at(state.epoch, config.epochs),
            start=state.batch,
            channels_last=config.channels_last,
            rank=self.world.rank,
            ranks=self.world.size,
        )

    def _interrupted(self, stop: StopRequest) -> Interrupted:
        self.world.wait()  # a process that is gone may take the others with it, and the first has just written
        return Interrupted(
            self.world.agree(stop.signal_number or signal.SIGTERM),
            f"stopped after epoch {self.state.epoch}, batch {self.state.batch}; the state is saved. "
            f"Continue with: nuat train --resume {self.folder.path}",
        )

    def train_batches(self, batches: Sequence[Batch]) -> BatchLoss | None:
        """Do the updates of the batches that share one, one but for a defense that replays.

        Returns the terms of the last batch, or none where the update was skipped.
        """
        state = self.state
        with PassCounter(state.model) as passes:
            for _ in range(self.replays):
                terms = self._update(batches)
                state.step += 1
        # passes are counted on this process's images, and every process does the same
        share = sum(len(b.y) for b in batches) / sum(len(b.x) for b in batches)
        state.forwards += round(share * passes.forwards)
        state.backwards += round(share * passes.backwards)
        state.batch += len(batches)
        return terms

    def _update(self, batches: Sequence[Batch]) -> BatchLoss | None:
        state = self.state
        try:
            terms = self.updater.update(batches)
        except NonFiniteError as error:
            alarm = monitors.nonfinite(self.config.monitors, str(error), state.epoch, state.batch)
            self.books.alarm(alarm, state.epoch + 1)
            return None
        for event in (event for of_batch in terms for event in of_batch.events):
            self.books.record(event)
        return terms[-1]

    def _tell_skipped(self) -> None:
        """Raise the alarms of the updates that the device skipped, before anything of them is kept."""
        for where in self.updater.skipped():
            alarm = monitors.nonfinite(self.config.monitors, NONFINITE, where.epoch, where.batch)
            self.books.alarm(alarm, where.epoch + 1)
