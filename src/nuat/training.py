"""Training: ``run(config)`` is the one training loop.

For each batch ``defense.loss`` makes a loss of it, the optimizer follows the gradient, the weight average follows the
optimizer. After each epoch come validation, monitors, the record and the checkpoint (``nuat.bookkeeping``).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nuat import averaging, data, hardware, initialisation, models, monitors
from nuat.bookkeeping import Bookkeeper
from nuat.checkpoints import load, read_checkpoint
from nuat.config import TrainConfig
from nuat.curves import Curves
from nuat.data import Batch
from nuat.defenses import BatchLoss, Step
from nuat.errors import InputError
from nuat.nuclear import NonFiniteError
from nuat.passes import PassCounter
from nuat.progress import Reporter
from nuat.records import RunFolder, check_same_config, no_space_left
from nuat.schedules import warm_up
from nuat.signals import Interrupted, StopRequest
from nuat.state import TrainingState
from nuat.threat import Linf


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
) -> Run:
    """Train by ``config`` and write the run to the folder ``out``.

    Args:
        config: all settings.
        out: a folder that does not exist or is empty; to resume, the folder of the run.
        recipe: name that the record carries.
        resume: go on from the folder's checkpoint to the end: bit for bit on the CPU, on a GPU up to its
            non-deterministic kernels.
        reporter: what is told on the way; none: nothing.

    Raises:
        InputError: a setting, a file or the data cannot be used, or the disk is full.
        RunStopped: an alarm ended the run.
        Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    folder, reporter = RunFolder(out), reporter or Reporter()
    device = hardware.resolve(config.device)
    try:
        if resume:
            check_same_config(folder.config, config)
        else:
            folder.check_new()
        loop = Loop(config, folder, recipe, device, reporter)
        if resume:
            loop.state.load(read_checkpoint(folder.checkpoint), str(folder.checkpoint))
            loop.books.resume()
        else:
            folder.create()
            loop.books.start()
            if loop.began_with is not None:
                loop.books.record(loop.began_with)
        return loop.run()
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


class Loop:
    """The parts of a run, and the steps that they take together."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, recipe: str, device: torch.device, reporter: Reporter
    ) -> None:
        self.config, self.folder, self.device, self.reporter = config, folder, device, reporter
        dataset = data.load(config.data)
        torch.manual_seed(config.seed)
        model = models.build(
            config.model,
            channels=dataset.channels,
            classes=len(dataset.classes),
            image_size=dataset.image_size,
        )
        self.began_with = None
        if not folder.checkpoint.is_file():  # a run that goes on has its weights there
            self.began_with = initialisation.initialise(
                model, config.model, channels=dataset.channels, image_size=dataset.image_size, say=reporter.message
            )
        if models.has_batch_norm(model):
            data.check_batches(len(dataset.train), config.batch_size)
        self.dataset = dataset.to(device)
        self.batches = -(-len(self.dataset.train) // config.batch_size)
        self.replays = config.defense.updates_per_batch
        model.to(device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        self.state = TrainingState.start(config, model.train(), device)
        self.books = Bookkeeper(config, recipe, folder, self.dataset, self.state, reporter)
        self.steps = config.epochs * self.batches * self.replays
        tau, steps = config.averaging.tau, self.steps
        if tau is not None and not config.averaging.warmup and tau**steps > 0.1:
            reporter.message(
                f"warning: after all {steps} steps {tau**steps:.0%} of the weight average will still be the initial "
                "weights; give --averaging.warmup true or a smaller --averaging.tau.",
                style="bold yellow",
            )

    def run(self) -> Run:
        """Do the epochs that are left, and return the finished run."""
        state, epochs = self.state, self.config.epochs
        curves = Curves(self.folder.tensorboard, state.epoch)
        self.reporter.begin("training", self.steps, state.step)
        try:
            with StopRequest() as stop:
                while state.epoch < epochs:
                    self._train_epoch(stop)
                    self.books.finish_epoch(curves)
                    stopped = stop.signal_number is not None
                    if stopped or state.epoch % self.config.checkpoint_every == 0 or state.epoch == epochs:
                        self.books.checkpoint()
                    if stopped:
                        raise self._interrupted(stop)
        finally:
            self.reporter.end()
            curves.close()
        return Run(self.folder.path, self.books.finish(self.batches))

    def _train_epoch(self, stop: StopRequest) -> None:
        """Do the batches of the present epoch that are left."""
        config, state = self.config, self.state
        clock, told = time.perf_counter(), 0.0
        for batch in self.epoch():
            terms = self.train_batch(batch)
            now = time.perf_counter()
            state.seconds, clock = state.seconds + now - clock, now
            if terms is not None:
                self.reporter.step(state.step, dict(terms.metrics))
            if now - told > 0.5:  # reading the loss waits for the device
                loss = f"loss {float(terms.loss.detach()):.3f}" if terms is not None else ""
                self.reporter.advance(state.step, f"epoch {state.epoch + 1}/{config.epochs} {loss} {self.books.status}")
                told = now
            if stop.signal_number is not None:
                self.books.checkpoint()
                raise self._interrupted(stop)

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
            start=state.batch,
            channels_last=config.channels_last,
        )

    def _interrupted(self, stop: StopRequest) -> Interrupted:
        return Interrupted(
            stop.signal_number or 0,
            f"stopped after epoch {self.state.epoch}, batch {self.state.batch}; the state is saved. "
            f"Continue with: nuat train --resume {self.folder.path}",
        )

    def train_batch(self, batch: Batch) -> BatchLoss | None:
        """Do a batch's updates, one but for a defense that replays; return the terms of the last."""
        state = self.state
        with PassCounter(state.model) as passes:
            for _ in range(self.replays):
                terms = self._step(batch)
                state.step += 1
        state.forwards, state.backwards = state.forwards + passes.forwards, state.backwards + passes.backwards
        state.batch += 1
        return terms

    def _step(self, batch: Batch) -> BatchLoss | None:
        """Do one update; return its terms, or none where it was skipped."""
        config, state = self.config, self.state
        warmup = warm_up(state.step, config.eps_warmup * self.steps)
        step = Step(
            threat=Linf(config.threat.eps * warmup),
            epoch=state.epoch,
            epochs=config.epochs,
            batch=state.batch,
            batches=self.batches,
            warmup=warmup,
            generator=state.generator,
            index=batch.index,
        )
        rate = config.optimizer.lr(state.step / self.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        # a forward pass on bad weights spoils batch norm's running statistics, too
        buffers = [b.clone() for b in state.model.buffers()] if config.monitors.on_nonfinite == "skip" else []
        state.optimizer.zero_grad(set_to_none=True)
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                terms = config.defense.loss(state.model, batch.x, batch.y, step, state.defense)
            torch.autograd.backward(terms.loss)
            self._check_finite(terms)
        except NonFiniteError as error:
            alarm = monitors.nonfinite(config.monitors, str(error), state.epoch, state.batch)
            self.books.alarm(alarm, state.epoch + 1)
            for buffer, before in zip(state.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return None
        state.optimizer.step()
        config.defense.after_step(state.model, step, state.defense)
        if state.average is not None and config.averaging.tau is not None:
            tau = averaging.decay(config.averaging.tau, state.step, warmup=config.averaging.warmup)
            averaging.update(state.average, state.model, tau)
        state.add({"loss": terms.loss.detach(), **terms.metrics}, len(batch.y))
        for event in terms.events:
            self.books.record(event)
        return terms

    def _check_finite(self, terms: BatchLoss) -> None:
        """Refuse a loss or gradients that are infinite or NaN, before they reach the weights."""
        gradients = [p.grad for p in self.state.model.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else terms.loss.detach()
        if not bool(torch.isfinite(norms).all() & torch.isfinite(terms.loss.detach())):
            raise NonFiniteError("the loss or its gradient is infinite or NaN")
