"""Monitors: what goes wrong in adversarial training, said when it happens.

Catastrophic overfitting (Wong et al. 2020; section 4 of the paper): the model withstands single-step attacks only.
Collapse to a constant: the regulariser wins and the clean loss returns to the log of the number of classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nuat.config import MonitorConfig


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What a monitor says."""

    monitor: str
    """overfitting, collapse or nonfinite."""
    message: str
    """One line: what was seen, and what to do."""
    stop: bool
    """Whether the settings end the run for it."""

    def record(self, epoch: int) -> dict[str, Any]:
        """Return the line of the metrics file."""
        return {"kind": "alarm", "monitor": self.monitor, "epoch": epoch, "message": self.message, "stop": self.stop}


class RunStopped(RuntimeError):  # noqa: N818 - it is an outcome of a run rather than an error of the program
    """An alarm ended the run; the last good checkpoint is kept."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__(alarm.message)
        self.alarm = alarm


def overfitting(config: MonitorConfig, validation: Mapping[str, float]) -> Alarm | None:
    """Return the alarm of catastrophic overfitting for an epoch's validation accuracies, if there is one."""
    gap = validation["fgsm"] - validation["pgd"]
    if gap <= config.overfitting_gap:
        return None
    return Alarm(
        monitor="overfitting",
        message=(
            f"catastrophic overfitting: validation accuracy is {validation['fgsm']:.1%} under FGSM but "
            f"{validation['pgd']:.1%} under PGD-7. Use a stronger regulariser (defense.lam, defense.weight), a larger "
            "random start, a lower learning rate, or an attack of more steps (NuAT-H, NuAT2, PGD-AT)."
        ),
        stop=config.on_overfitting == "stop",
    )


def looks_collapsed(config: MonitorConfig, clean_loss: float, classes: int) -> bool:
    """Return whether an epoch's mean clean loss is that of a constant model."""
    return clean_loss > (1.0 - config.collapse_margin) * math.log(classes)


def collapse(config: MonitorConfig, epochs_in_a_row: int, clean_loss: float, classes: int) -> Alarm | None:
    """Return the alarm of a collapse that has lasted ``epochs_in_a_row``, once, when it reaches the patience."""
    if epochs_in_a_row != config.collapse_patience:
        return None
    return Alarm(
        monitor="collapse",
        message=(
            f"collapse to a constant: the clean loss has been {clean_loss:.3f}, near log({classes}) = "
            f"{math.log(classes):.3f}, for {epochs_in_a_row} epochs. Use less lambda or a lower learning rate."
        ),
        stop=config.on_collapse == "stop",
    )


def diverged(config: MonitorConfig, what: str) -> Alarm:
    """Return the alarm of a model that validation finds to be infinite or NaN."""
    return Alarm(
        monitor="nonfinite",
        message=f"validation: {what.rstrip('.')}. Start again with a lower learning rate or less lambda.",
        stop=config.on_nonfinite == "stop",
    )


def nonfinite(config: MonitorConfig, what: str, epoch: int, batch: int) -> Alarm:
    """Return the alarm of a loss or logits that are infinite or NaN."""
    stop = config.on_nonfinite == "stop"
    follow = "The run ends; start again with" if stop else "This update is skipped. If it recurs, use"
    return Alarm(
        monitor="nonfinite",
        message=(
            f"epoch {epoch + 1}, batch {batch + 1}: {what.rstrip('.')}. {follow} a lower learning rate or less lambda."
        ),
        stop=stop,
    )
