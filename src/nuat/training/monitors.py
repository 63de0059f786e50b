"""Monitors: alarms for what goes wrong in adversarial training.

Catastrophic overfitting (Wong et al. 2020; section 4 of the paper): the model withstands single-step attacks only.
Collapse to a constant: the regulariser wins and the clean loss returns to the log of the number of classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nuat.attacks.catalogue import attack_name
from nuat.config import MonitorConfig, TrainConfig
from nuat.core.losses import least_cross_entropy, soft_labels
from nuat.training.state import TrainingState


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An alarm of a monitor."""

    monitor: str
    """overfitting, collapse or nonfinite."""
    message: str
    """One line: the observation, and the next step."""
    stop: bool
    """Whether it ends the run, by the settings."""
    brake: bool = False
    """Whether the run goes back to its last good epoch, by the settings."""

    def record(self, epoch: int) -> dict[str, Any]:
        """Return the line of the metrics file."""
        return {"kind": "alarm", "monitor": self.monitor, "epoch": epoch, "message": self.message, "stop": self.stop}


class RunStopped(RuntimeError):  # noqa: N818 - it is an outcome of a run rather than an error of the program
    """An alarm ended the run; the last good checkpoint is kept."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__(alarm.message)
        self.alarm = alarm


def overfitting(config: MonitorConfig, validation: Mapping[str, float], attack: str) -> Alarm | None:
    """Return the alarm of catastrophic overfitting for an epoch's validation accuracies, if there is cause.

    ``attack`` is the name of the attack of the validation.
    """
    gap = validation["fgsm"] - validation["pgd"]
    if gap <= config.overfitting_gap:
        return None
    return Alarm(
        monitor="overfitting",
        message=(
            f"catastrophic overfitting: validation accuracy is {validation['fgsm']:.1%} under FGSM but "
            f"{validation['pgd']:.1%} under {attack_name(attack)}. Use a stronger regulariser (defense.lam, "
            "defense.weight), a larger random start, a lower learning rate, or an attack of more steps (NuAT-H, NuAT2, "
            "PGD-AT)."
        ),
        stop=config.on_overfitting == "stop",
        brake=config.on_overfitting == "brake",
    )


def looks_collapsed(config: MonitorConfig, clean_loss: float, classes: int, smoothing: float = 0.0) -> bool:
    """Return whether an epoch's mean clean loss is as high as a constant model's.

    ``smoothing`` of the labels raises the least loss, and the margin is a share of what is above it.
    """
    least = float(least_cross_entropy(soft_labels(torch.tensor([0]), classes, smoothing, torch.float64)))
    return clean_loss > least + (1.0 - config.collapse_margin) * (math.log(classes) - least)


def collapse(config: MonitorConfig, epochs_in_a_row: int, clean_loss: float, classes: int) -> Alarm | None:
    """Return the alarm of a collapse in the epoch in which it reaches the patience."""
    if epochs_in_a_row != config.collapse_patience:
        return None
    return Alarm(
        monitor="collapse",
        message=(
            f"collapse to a constant: the clean loss has been {clean_loss:.3f}, near log({classes}) = "
            f"{math.log(classes):.3f}, for {epochs_in_a_row} epochs. Use less lambda or a lower learning rate."
        ),
        stop=config.on_collapse == "stop",
        brake=config.on_collapse == "brake",
    )


def of_epoch(
    config: TrainConfig,
    state: TrainingState,
    train: Mapping[str, float],
    validation: Mapping[str, Mapping[str, float]],
    classes: int,
) -> list[Alarm]:
    """Return the alarms of an epoch that has ended, and count it if it looks collapsed.

    Args:
        config: settings of the run.
        state: state of the run, whose ``collapsed_epochs`` is updated.
        train: means of the metrics over the epoch.
        validation: validation by the name of the weights; empty: there is none.
        classes: number of classes.
    """
    found = []
    # defenses that see no clean images report no clean loss; validation has one
    clean_loss = train.get("clean_loss", validation.get("live", {}).get("clean_loss"))
    if clean_loss is not None:
        smoothing = config.defense.smoothing * ("clean_loss" in train)  # validation keeps the labels
        collapsed = looks_collapsed(config.monitors, clean_loss, classes, smoothing)
        state.collapsed_epochs = state.collapsed_epochs + 1 if collapsed else 0
        found.append(collapse(config.monitors, state.collapsed_epochs, clean_loss, classes))
    if validation:
        found.append(overfitting(config.monitors, validation["live"], config.validate_attack))
    return [alarm for alarm in found if alarm is not None]


def diverged(config: MonitorConfig, what: str) -> Alarm:
    """Return the alarm of a model whose validation is infinite or NaN."""
    return Alarm(
        monitor="nonfinite",
        message=f"validation: {what.rstrip('.')}. Start again with a lower learning rate or less lambda.",
        stop=config.on_nonfinite == "stop",
    )


def nonfinite(config: MonitorConfig, what: str, epoch: int, batch: int) -> Alarm:
    """Return the alarm of an infinite or NaN loss, gradient or logits."""
    stop = config.on_nonfinite == "stop"
    follow = "The run ends; start again with" if stop else "This update is skipped. If it recurs, use"
    return Alarm(
        monitor="nonfinite",
        message=(
            f"epoch {epoch + 1}, batch {batch + 1}: {what.rstrip('.')}. {follow} a lower learning rate or less lambda."
        ),
        stop=stop,
    )


def off(validation: bool, clean_loss: bool) -> dict[str, str]:
    """Return the monitors that cannot watch a run, each with the reason.

    Args:
        validation: whether there are validation images.
        clean_loss: whether the defense reports the loss on clean images.
    """
    found = {}
    if not validation:
        found["overfitting"] = "it compares validation accuracies, and data.validation is 0"
    if not validation and not clean_loss:
        found["collapse"] = "this defense reports no clean loss, and data.validation is 0"
    return found
