"""Bookkeeping around the steps of a run: validation, monitors, best weights, record and checkpoints.

With several devices every process goes through it, since validation is shared and alarms end the run for all; only the
first process writes.
"""

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nuat import hardware
from nuat.config import TrainConfig
from nuat.core import averaging, digest
from nuat.data import Dataset
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError, NonFiniteError
from nuat.files import write_text
from nuat.progress import Reporter
from nuat.records.checkpoints import WeightsInfo, read_info, save_checkpoint, save_weights
from nuat.records.environment import environment, run_id_of
from nuat.records.folder import RunFolder
from nuat.records.json_values import read_object
from nuat.records.settings import code_names, flat, images_source, recorded, write_config
from nuat.training import brake, monitors
from nuat.training.monitors import Alarm, RunStopped
from nuat.training.state import TrainingState
from nuat.training.trackers import Picture, TrackedRun, Tracking
from nuat.training.validation import Validator, clean_and_attacked
from nuat.training.writer import Writer

_HEAD = "    epoch       lr     loss   clean    fgsm {}      time"
"""Head of the lines of epochs; the attack of the validation takes 7 columns."""


class Bookkeeper:
    """Keep the record and the files of a run up to date with its state."""

    def __init__(
        self,
        config: TrainConfig,
        recipe: str,
        folder: RunFolder,
        dataset: Dataset,
        state: TrainingState,
        reporter: Reporter,
        world: World = ALONE,
    ) -> None:
        self._config, self._folder, self._dataset = config, folder, dataset
        self._state, self._reporter, self._world = state, reporter, world
        self._averaged = [averaging.module_of(state.model, average) for average in state.averages]
        self._recipe = recipe
        self._told = False
        self._writer = Writer(state.generator.device, folder.check_there)
        self._saved = time.monotonic()
        self._validator = Validator(config, dataset.validation, state.generator.device, world)
        self.status = ""
        """Last validation, for the progress bar."""

    def start(self, weights: Mapping[str, Any] | None) -> None:
        """Write the settings, environment and split of a new run, and the record of its start, to its new folder.

        Args:
            weights: record of the initial weights; None: random ones.
        """
        if not self._world.leads:
            return
        write_config(self._folder.config, self._config, self._recipe)
        device = self._state.generator.device
        here = {"run_id": uuid.uuid4().hex[:16], **self._environment(device)}
        write_text(self._folder.environment, json.dumps(here, indent=1) + "\n")
        split = {
            "source": self._dataset.source,
            "train": len(self._dataset.train),
            "test": len(self._dataset.test),
            "validation": len(self._dataset.validation),
            "validation_indices": self._dataset.validation_indices.tolist(),
            "train_sha256": self._train_digest(),
            "skipped": self._dataset.skipped,
            "skipped_names": list(self._dataset.skipped_names),
            "notes": list(self._dataset.notes),
        }
        write_text(self._folder.split, json.dumps(split) + "\n")
        self.record({"kind": "start", "recipe": self._recipe, "seed": self._config.seed})
        if weights is not None:
            self.record(weights)
        self._reporter.message(f"writing to {self._folder.path}")

    def resume(self) -> None:
        """Drop the lines of steps that are done again, and record where and on what the run goes on.

        Raises:
            InputError: the training images are not those of the run's start.
        """
        if not self._world.leads:  # the first process holds the same images, and its refusal ends the others
            return
        began_with = read_object(self._folder.split) if self._folder.split.is_file() else {}
        if began_with.get("train_sha256") != self._train_digest():
            raise InputError(
                f"{self._folder.path}: was begun with other training images than {self._dataset.source} now holds."
            )
        if self._folder.best.is_file() and read_info(self._folder.best).epoch > self._state.epoch:
            # written after the checkpoint: their epoch is done again, and on a GPU may end otherwise
            self._state.best_accuracy = -1.0
        self._folder.truncate_metrics(self._state.metrics_bytes)
        where: dict[str, Any] = {"epoch": self._state.epoch, "batch": self._state.batch}
        code = code_names(self._config, self._recipe)
        where |= {"code": code} if code else {}
        self.record({"kind": "resume", **where, "environment": self._environment(self._state.generator.device)})
        self._reporter.message(f"writing to {self._folder.path}")
        self._tell_hardware()

    def _tell_hardware(self) -> None:
        """Say when a run goes on with another processor or number of threads, which round sums otherwise."""
        device = self._state.generator.device
        try:
            began = json.loads(self._folder.environment.read_text())["hardware"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # a file of somebody's own making; the settings and images have been checked
        now = hardware.describe(device)
        if device.type == "cpu" and began != now:
            self._reporter.message(
                f"warning: the run began on {began} and goes on on {now}: sums are rounded otherwise, so the weights "
                "will not be those of an uninterrupted run to the last bit; OMP_NUM_THREADS sets the threads.",
                style="bold yellow",
            )

    def record(self, line: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        self._writer.check()
        if self._world.leads:
            self._folder.check_there()
            self._state.metrics_bytes = self._folder.append(dict(line))

    def _environment(self, device: torch.device) -> dict[str, Any]:
        return environment(device) | ({"processes": self._world.size} if self._world.size > 1 else {})

    def finish_epoch(self, tracking: Tracking) -> None:
        """Validate if it is time, record the epoch, raise its alarms, keep its weights if they are the best; brake."""
        state = self._state
        train = self._train_means()
        validation = self._validate()
        state.epoch, state.batch, state.sums, state.images = state.epoch + 1, 0, {}, 0
        record = {
            "kind": "epoch",
            "epoch": state.epoch,
            "step": state.step,
            "lr": state.optimizer.param_groups[0]["lr"],
            "train": train,
            "validation": validation or {},
            "seconds": state.seconds,
            "forwards": state.forwards,
            "backwards": state.backwards,
        }
        self.record(record)
        tracking.log(state.epoch, record)
        # the shipped weights come last; of equals the later epoch is kept, which has trained longer
        judged = list(validation.values())[-1] if validation else {}
        accuracy = judged.get(self._config.defense.judged_by, -1.0)
        best = validation is not None and accuracy >= state.best_accuracy
        self._tell(record, best=best and bool(validation))
        alarms = self._check(train, validation or {})
        if best:
            state.best_accuracy, state.best_epoch = accuracy, state.epoch - 1
            if "tau" in judged:
                state.best_average = self._config.averaging.taus.index(judged["tau"])
            self._write_weights(self._folder.best, self._shipped())
        event = brake.settle(state, alarms, validation)
        if event is not None:
            self.record(event)
            self._reporter.message(event["message"], style="bold yellow")

    def _train_means(self) -> dict[str, float]:
        """Return the means of the metrics over this epoch's images so far, of all processes."""
        state = self._state
        if self._config.distributed.statistics == "device" and self._world.size > 1:
            told = self._world.objects((state.images, state.means() if state.images else {}))
            images = sum(n for n, _ in told)
            return {name: sum(n * means[name] for n, means in told) / images for name in told[0][1]}
        return state.means() if state.images else {}

    def alarm(self, alarm: Alarm, epoch: int) -> None:
        """Say and record an alarm of ``epoch`` (from 1, as in the record).

        Raises:
            RunStopped: the alarm ends the run, by the settings.
        """
        self.record(alarm.record(epoch))
        if alarm.stop:
            raise RunStopped(alarm)
        self._reporter.message(f"warning: {alarm.message}", style="bold yellow")

    def checkpoint(self, *, now: bool) -> None:
        """Write the full state and the last weights, in a thread, from a copy.

        Args:
            now: wait until they are written. Otherwise ``checkpoint_seconds`` may leave this checkpoint out.
        """
        spacing = self._config.checkpoint_seconds
        if not now and spacing is not None and not self._world.agree(time.monotonic() - self._saved >= spacing):
            return
        self._saved = time.monotonic()
        values = self._state.to_dict(self._world)
        # the checkpoint comes last: anything cut off before it is done again on resuming
        self._write_weights(self._folder.last, self._shipped())
        if self._world.leads:
            self._writer.write(lambda copied: save_checkpoint(self._folder.checkpoint, copied), values)
        if now:
            self._writer.finish()

    def close(self) -> None:
        """Wait for the files that are being written; the run is over, one way or another."""
        self._writer.close()

    def _write_weights(self, path: Path, weights: dict[str, Tensor]) -> None:
        """Write weights with the metadata of this moment, in the thread."""
        if self._world.leads:
            info = self._info()
            self._writer.write(lambda copied: save_weights(path, copied, info), weights)

    def finish(self, batches: int, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Record the end of the run, and return its figures.

        Args:
            batches: batches per epoch.
            figures: further figures to record.
        """
        state = self._state
        summary = {
            "kind": "end",
            "epochs": state.epoch,
            "steps": state.step,
            "best_epoch": state.best_epoch + 1,
            "best_validation": None if state.best_accuracy < 0 else state.best_accuracy,
            "seconds": state.seconds,
            "forwards": state.forwards,
            "backwards": state.backwards,
            **({"best_tau": self._config.averaging.taus[state.best_average]} if len(state.averages) > 1 else {}),
            **figures,
            **self._config.defense.summary(state.defense, batches),
        }
        self.record(summary)
        return summary

    def tracked(self) -> TrackedRun:
        """Return the run as its trackers get to know it."""
        return TrackedRun(
            id=run_id_of(self._folder.environment) or digest.of_file(self._folder.config)[:16],
            folder=self._folder.path,
            recipe=self._recipe,
            settings=flat(recorded(self._config)),
            epoch=self._state.epoch,
        )

    def pictures(self) -> dict[str, Picture]:
        """Return pictures of validation images, clean and attacked; empty where there are none to show."""
        images = self._dataset.validation
        model = self._averaged[self._state.best_average] if self._averaged else self._state.model
        if len(images) == 0 or images.channels not in (1, 3):
            return {}
        try:
            attack = self._config.validate_attack
            shown = clean_and_attacked(model, images, threat=self._config.threat, attack=attack)
        except NonFiniteError:  # the model has diverged, which has been said
            return {}
        return {"validation images, clean and attacked": shown}

    def _shipped(self) -> dict[str, Tensor]:
        """Return the weights to ship: the average, of several the best, or else the live ones."""
        state = self._state
        return state.averages[state.best_average] if state.averages else state.model.state_dict()

    def _train_digest(self) -> str:
        """Return the digest of the training images and labels, in order."""
        return self._dataset.train.fingerprint()

    def _validate(self) -> dict[str, dict[str, float]] | None:
        """Return the validation of the live weights and of each average, by name; empty without images.

        None: this epoch is not validated, or the model has diverged, and the settings go on.
        """
        models = [self._state.model, *self._averaged]
        try:
            return self._validator.validate(models, self._state.epoch + 1, self._state.seconds)
        except NonFiniteError as error:
            self.alarm(monitors.diverged(self._config.monitors, str(error)), self._state.epoch + 1)
            return None

    def _check(self, train: Mapping[str, float], validation: Mapping[str, dict[str, float]]) -> list[Alarm]:
        """Let the monitors look at an epoch, and return their alarms; say once which of them cannot."""
        if self._state.epoch == 1:
            for monitor, reason in monitors.off(len(self._dataset.validation) > 0, "clean_loss" in train).items():
                message = f"the monitor of {monitor} is off: {reason}."
                self.record({"kind": "monitor_off", "monitor": monitor, "message": message})
                self._reporter.message(f"warning: {message}", style="bold yellow")
        if validation:
            gap = validation["live"]["fgsm"] - validation["live"]["pgd"]
            self.status = f"{self._config.validate_attack} {validation['live']['pgd']:.0%} gap {gap:.0%}"
        found = monitors.of_epoch(self._config, self._state, train, validation, len(self._dataset.classes))
        alarms = [brake.limited(alarm, self._state, validation) for alarm in found]
        for alarm in alarms:
            self.alarm(alarm, self._state.epoch)
        return alarms

    def _info(self) -> WeightsInfo:
        taus = self._config.averaging.taus
        return WeightsInfo(
            model=self._config.model,
            channels=self._dataset.channels,
            image_size=self._dataset.image_size,
            classes=self._dataset.classes,
            threat=self._config.threat,
            recipe=self._recipe,
            epoch=self._state.epoch,
            averaged=bool(taus),
            tau=taus[self._state.best_average] if taus else None,
            data=images_source(self._dataset.source, self._config.data),
            resize=self._config.data.eval_resize,
            nuat_version=hardware.NUAT_VERSION,
        )

    def _tell(self, record: Mapping[str, Any], *, best: bool) -> None:
        """Print an epoch in one line of at most 80 columns, the first under a head; the record has every figure."""
        if not self._told:
            self._told = True
            count, attack = len(self._dataset.validation), self._config.validate_attack
            if count:
                kinds = ("live weights", "averaged weights", "best average, whose decay ends the line,")
                which = kinds[min(len(self._averaged), 2)]
                self._reporter.message(f"clean, fgsm, {attack}: accuracy of the {which} on {count:,} validation images")
            self._reporter.message(_HEAD.format(f"{attack if len(attack) < 8 else 'attack':>7}"))
        loss = record["train"].get("loss")
        figures = list(record["validation"].values())[-1] if record["validation"] else {}
        cells = [
            f"{record['epoch']}/{self._config.epochs}".rjust(9),
            f"{record['lr']:8.4f}",
            "       -" if loss is None else f"{loss:8.3f}" if loss < 1000 else f"{loss:8.2g}",
            *(f"{figures[name]:7.1%}" if name in figures else "      -" for name in ("clean", "fgsm", "pgd")),
            f"{record['seconds']:7.0f} s",
        ]
        chosen = f"  {figures['tau']:g}" if "tau" in figures else ""
        self._reporter.message(" ".join(cells) + chosen + "  best" * best, style="bold" if best else "")
