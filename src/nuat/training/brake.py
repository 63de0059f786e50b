"""Brake: after an alarm, go back to the last good epoch and train on at half the learning rate.

An epoch is good if it was validated, no monitor raised an alarm, and its clean loss is not a constant model's. All that
is trained goes back: weights, averages, the optimizer and the state of the defense. The position stays: the epoch
counts as spent, and schedules and random draws go on. Overfitting only warns while accuracy under PGD is no lower than
in the last good epoch: early in training the gap may open while both accuracies rise. Before the first good epoch it
warns, too, and a collapse goes back to the initial weights. An alarm that would be a fourth brake ends the run.

In the epoch after a brake, FGSM-AT, R-FGSM-AT and FBF attack in two steps of half the size
(``AdversarialTraining.halves``). Others attack as ever: each builds its attack in its own way, around the logits of
clean images or the memory of its last attack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nuat.training.monitors import Alarm
from nuat.training.state import TrainingState
from nuat.training.writer import copied

MOST = 3
"""Brakes of a run."""
Validation = Mapping[str, Mapping[str, float]]


def rate_factor(state: TrainingState) -> float:
    """Return the factor of the schedule's learning rate: a half for each brake."""
    return float(0.5**state.brakes)


def attacks_twice(state: TrainingState) -> bool:
    """Return whether the present epoch is the one after a brake."""
    return state.brakes > 0 and state.epoch == state.braked_at


def limited(alarm: Alarm, state: TrainingState, validation: Validation) -> Alarm:
    """Return the alarm, which only warns while training still gains, and ends the run after ``MOST`` brakes."""
    if not alarm.brake or state.good is None:
        return alarm
    if alarm.monitor == "overfitting" and _pgd(validation) >= state.good["pgd"]:
        return replace(alarm, brake=False)
    if state.brakes < MOST:
        return alarm
    message = f"{alarm.message} The run ends, because it has gone back {MOST} times."
    return replace(alarm, stop=True, brake=False, message=message)


def settle(state: TrainingState, alarms: Sequence[Alarm], validation: Validation | None) -> dict[str, Any] | None:
    """Remember the state at the end of an epoch if that is good, or go back if an alarm asks for it.

    Args:
        state: state of the run; without ``good`` nothing is done.
        alarms: alarms of the epoch.
        validation: validation of the epoch by the name of the weights; empty without images. None: not validated.

    Returns:
        The line for the record, if the run has gone back.
    """
    asked = next((alarm for alarm in alarms if alarm.brake), None)
    if asked is not None:
        return _go_back(state, asked.monitor)
    if state.good is not None and validation is not None and not alarms and state.collapsed_epochs == 0:
        state.keep(_pgd(validation))
    return None


def _pgd(validation: Validation) -> float:
    """Return the accuracy of the live weights under the attack of the validation; 0 without images."""
    return validation["live"]["pgd"] if validation else 0.0


@torch.no_grad()
def _go_back(state: TrainingState, monitor: str) -> dict[str, Any]:
    """Go back to the last good epoch; return the line for the record."""
    good = state.good
    assert good is not None  # the settings brake
    live = state.trained()
    for part in ("model", "optimizer", "average"):
        _fill(live[part], good[part])
    state.defense = copied(good["defense"])
    state.brakes, state.braked_at, state.collapsed_epochs = state.brakes + 1, state.epoch, 0
    where = f"the end of epoch {good['epoch']}" if good["epoch"] else "the initial weights"
    message = f"back to {where}; the learning rate is multiplied by {rate_factor(state):g} from here on."
    return {
        "kind": "brake",
        "monitor": monitor,
        "epoch": state.epoch,
        "back_to": good["epoch"],
        "rate_factor": rate_factor(state),
        "message": message,
    }


def _fill(live: Any, kept: Any) -> None:
    """Fill the tensors of nested data, in place because recorded updates hold them.

    Those that ``kept`` lacks become 0: the optimizer has none before its first step, which is the same to it.
    """
    if isinstance(live, Tensor):
        live.zero_() if kept is None else live.copy_(kept)
    elif isinstance(live, dict):
        for name, value in live.items():
            _fill(value, None if kept is None else kept.get(name))
    elif isinstance(live, (list, tuple)):
        for value, one in zip(live, kept, strict=True):
            _fill(value, one)
