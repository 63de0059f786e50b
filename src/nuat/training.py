"""Training: ``run(config)`` is the one training loop.

For each batch ``defense.loss`` makes a loss of it, the optimizer follows the gradient, the weight average follows the
optimizer. After each epoch come validation, monitors, the record and the checkpoint.
"""

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat import averaging, data, hardware, models, monitors
from nuat.checkpoints import WeightsInfo, load, read_checkpoint, save_checkpoint, save_weights
from nuat.config import TrainConfig
from nuat.curves import Curves
from nuat.data import Batch
from nuat.defenses import BatchLoss, Step
from nuat.errors import InputError
from nuat.files import write_text
from nuat.monitors import Alarm, RunStopped
from nuat.nuclear import NonFiniteError
from nuat.passes import PassCounter
from nuat.progress import Reporter
from nuat.records import RunFolder, environment, no_space_left, write_config
from nuat.signals import Interrupted, StopRequest
from nuat.state import TrainingState
from nuat.threat import Linf
from nuat.validation import validate


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
        resume: go on from the folder's checkpoint, bit for bit, to the end.
        reporter: what is told on the way; none: nothing.

    Raises:
        InputError: a setting, a file or the data cannot be used, or the disk is full.
        RunStopped: an alarm ended the run.
        Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    folder, reporter = RunFolder(out), reporter or Reporter()
    device = hardware.resolve(config.device)
    try:
        loop = _Loop(config, folder, recipe, device, reporter)
        if resume:
            loop.state.load(read_checkpoint(folder.checkpoint), str(folder.checkpoint))
            folder.truncate_metrics(loop.state.metrics_bytes)
            loop.record({"kind": "resume", "epoch": loop.state.epoch, "batch": loop.state.batch})
        else:
            folder.create()
            loop.write_start()
        return loop.run()
    except OSError as error:
        if not no_space_left(error):
            raise
        raise InputError(
            f"{out}: no space left on the disk ({error.strerror}). What was written before is whole; free some space "
            f"and continue with: nuat train --resume {out}"
        ) from error


class _Loop:
    """The parts of a run, and the steps that they take together."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, recipe: str, device: torch.device, reporter: Reporter
    ) -> None:
        self.config, self.folder, self.recipe, self.device, self.reporter = config, folder, recipe, device, reporter
        self.dataset = data.load(config.data)
        torch.manual_seed(config.seed)
        model = models.build(
            config.model,
            channels=self.dataset.channels,
            classes=len(self.dataset.classes),
            image_size=self.dataset.image_size,
        )
        if models.has_batch_norm(model):
            data.check_batches(len(self.dataset.train), config.batch_size)
        self.dataset = self.dataset.to(device)
        self.batches = -(-len(self.dataset.train) // config.batch_size)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.state = TrainingState.start(config, model.to(device, memory_format=layout).train(), device)
        self.averaged = None if self.state.average is None else copy.deepcopy(model)

    def write_start(self) -> None:
        """Write the settings, the environment and the split."""
        write_config(self.folder.config, self.config, self.recipe)
        write_text(self.folder.environment, json.dumps(environment(self.device), indent=1) + "\n")
        split = {
            "source": self.dataset.source,
            "train": len(self.dataset.train),
            "test": len(self.dataset.test),
            "validation": len(self.dataset.validation),
            "validation_indices": self.dataset.validation_indices.tolist(),
        }
        write_text(self.folder.split, json.dumps(split) + "\n")
        self.record({"kind": "start", "recipe": self.recipe, "seed": self.config.seed})

    def run(self) -> Run:
        """Do the epochs that are left, and return the finished run."""
        state, epochs = self.state, self.config.epochs
        curves = Curves(self.folder.tensorboard, state.epoch)
        self.reporter.begin("training", epochs * self.batches, state.step)
        try:
            with StopRequest() as stop:
                while state.epoch < epochs:
                    self._train_epoch(stop)
                    record = self._finish_epoch()
                    curves.add(record)
                    if state.epoch % self.config.checkpoint_every == 0 or state.epoch == epochs:
                        self._checkpoint()
        finally:
            self.reporter.end()
            curves.close()
        return Run(self.folder.path, self._summary())

    def record(self, line: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        self.state.metrics_bytes = self.folder.append(dict(line))

    def _train_epoch(self, stop: StopRequest) -> None:
        """Do the batches of the present epoch that are left."""
        config, state = self.config, self.state
        batches = data.epoch_batches(
            self.dataset.train,
            config.batch_size,
            order_seed=config.seed,
            epoch=state.epoch,
            crop_padding=config.data.crop_padding,
            flip=config.data.flip,
            generator=state.generator,
            start=state.batch,
            channels_last=config.channels_last,
        )
        clock, told = time.perf_counter(), 0.0
        for batch in batches:
            with PassCounter(state.model) as passes:
                terms = self._step(batch)
            state.forwards, state.backwards = state.forwards + passes.forwards, state.backwards + passes.backwards
            state.batch, state.step = state.batch + 1, state.step + 1
            now = time.perf_counter()
            state.seconds, clock = state.seconds + now - clock, now
            if terms is not None:
                self.reporter.step(state.step, dict(terms.metrics))
            if now - told > 0.5:  # reading the loss waits for the device
                loss = f"loss {float(terms.loss.detach()):.3f}" if terms is not None else ""
                self.reporter.advance(state.step, f"epoch {state.epoch + 1}/{config.epochs} {loss}")
                told = now
            if stop.signal_number is not None:
                self._checkpoint()
                raise Interrupted(
                    stop.signal_number,
                    f"stopped in epoch {state.epoch + 1} after step {state.step}; the state is saved. "
                    f"Continue with: nuat train --resume {self.folder.path}",
                )

    def _step(self, batch: Batch) -> BatchLoss | None:
        """Do one update; return its terms, or none where it was skipped."""
        config, state = self.config, self.state
        step = Step(
            threat=Linf(config.threat.eps),
            epoch=state.epoch,
            epochs=config.epochs,
            batch=state.batch,
            batches=self.batches,
            generator=state.generator,
            index=batch.index,
        )
        rate = config.optimizer.lr(state.step / (config.epochs * self.batches))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                terms = config.defense.loss(state.model, batch.x, batch.y, step, state.defense)
        except NonFiniteError:
            return self._nonfinite("logits that are infinite or NaN")
        if not bool(torch.isfinite(terms.loss)):
            return self._nonfinite("a loss that is infinite or NaN")
        state.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.loss)
        state.optimizer.step()
        if state.average is not None and config.averaging.tau is not None:
            tau = averaging.decay(config.averaging.tau, state.step, warmup=config.averaging.warmup)
            averaging.update(state.average, state.model, tau)
        config.defense.after_step(state.model, step, state.defense)
        state.add({"loss": terms.loss.detach(), **terms.metrics}, len(batch.y))
        for event in terms.events:
            self.record(event)
        return terms

    def _finish_epoch(self) -> dict[str, Any]:
        """Validate, keep the best weights, raise the alarms, and return the epoch's record."""
        config, state = self.config, self.state
        train = state.means() if state.images else {}
        shipped = self._shipped()
        live = self._validate(state.model)
        validation = {"live": live} if self.averaged is None else {"live": live, "averaged": self._validate(self.averaged)}
        state.epoch, state.batch, state.sums, state.images = state.epoch + 1, 0, {}, 0
        record = {
            "kind": "epoch",
            "epoch": state.epoch,
            "step": state.step,
            "lr": state.optimizer.param_groups[0]["lr"],
            "train": train,
            "validation": {} if live is None else validation,
            "seconds": state.seconds,
            "forwards": state.forwards,
            "backwards": state.backwards,
        }
        self.record(record)
        self._tell(record)
        self._raise_alarms(train, live)
        accuracy = None if live is None else list(validation.values())[-1]["pgd"]  # type: ignore[index]
        if accuracy is None or accuracy >= state.best_accuracy:  # of equals the later, trained longer
            state.best_accuracy, state.best_epoch = -1.0 if accuracy is None else accuracy, state.epoch - 1
            save_weights(self.folder.best, shipped, self._info())
        return record

    def _shipped(self) -> dict[str, Tensor]:
        """Return the weights that the run is for: the average where there is one."""
        if self.state.average is None or self.averaged is None:
            return self.state.model.state_dict()
        averaging.load_into(self.averaged, self.state.average)
        return self.state.average

    def _validate(self, model: nn.Module) -> dict[str, float] | None:
        images = self.dataset.validation
        if len(images) == 0:
            return None
        return validate(model, images, eps=self.config.threat.eps, batch_size=self.config.evaluation.batch_size)

    def _raise_alarms(self, train: Mapping[str, float], validation: Mapping[str, float] | None) -> None:
        config, classes = self.config.monitors, len(self.dataset.classes)
        clean_loss = train.get("clean_loss", train.get("loss", 0.0))
        collapsed = monitors.looks_collapsed(config, clean_loss, classes)
        self.state.collapsed_epochs = self.state.collapsed_epochs + 1 if collapsed else 0
        self._alarm(monitors.collapse(config, self.state.collapsed_epochs, clean_loss, classes))
        if validation is not None:
            self._alarm(monitors.overfitting(config, validation))

    def _nonfinite(self, what: str) -> None:
        self._alarm(monitors.nonfinite(self.config.monitors, what, self.state.epoch, self.state.batch))

    def _alarm(self, alarm: Alarm | None) -> None:
        """Say and record an alarm; end the run where the settings say so."""
        if alarm is None:
            return
        self.record(alarm.record(self.state.epoch))
        if alarm.stop:
            raise RunStopped(alarm)
        self.reporter.message(f"warning: {alarm.message}", style="bold yellow")

    def _checkpoint(self) -> None:
        save_checkpoint(self.folder.checkpoint, self.state.to_dict())
        save_weights(self.folder.last, self._shipped(), self._info())

    def _info(self) -> WeightsInfo:
        return WeightsInfo(
            model=self.config.model,
            channels=self.dataset.channels,
            image_size=self.dataset.image_size,
            classes=self.dataset.classes,
            threat=self.config.threat,
            recipe=self.recipe,
            epoch=self.state.epoch,
            averaged=self.state.average is not None,
            data=self.dataset.source,
        )

    def _tell(self, record: Mapping[str, Any]) -> None:
        """Say an epoch in one line."""
        parts = [f"epoch {record['epoch']:>3}/{self.config.epochs}", f"lr {record['lr']:.4f}"]
        parts += [f"{name.replace('_', '-')} {value:.3f}" for name, value in record["train"].items()]
        for which, found in record["validation"].items():
            parts.append(f"{which}: clean {found['clean']:.1%} fgsm {found['fgsm']:.1%} pgd-7 {found['pgd']:.1%}")
        self.reporter.message("  ".join([*parts, f"{record['seconds']:.0f} s"]))

    def _summary(self) -> dict[str, Any]:
        state = self.state
        summary = {
            "kind": "end",
            "epochs": state.epoch,
            "steps": state.step,
            "best_epoch": state.best_epoch + 1,
            "best_validation_pgd": None if state.best_accuracy < 0 else state.best_accuracy,
            "seconds": state.seconds,
            "forwards": state.forwards,
            "backwards": state.backwards,
            **self.config.defense.summary(state.defense, self.batches),
        }
        lines = self.folder.read_metrics()
        if lines[-1]["kind"] != "end":
            self.record(summary)
        return summary
