"""How runs went, epoch by epoch: losses, accuracies, lambda, learning rate, alarms and switches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nuat.analysis.record import Record
from nuat.analysis.runs import FinishedRun
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What a monitor said."""

    epoch: int
    """From 1."""
    monitor: str
    """overfitting, collapse or nonfinite."""
    message: str
    """The line that was printed."""


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """One run."""

    name: str
    """How the figure calls it."""
    seed: int | None
    """Of the training."""
    epochs: tuple[int, ...]
    """[E] from 1."""
    series: dict[str, tuple[float | None, ...]]
    """[E] each, by place in the record: lr, train.loss, validation.live.pgd, ...; accuracies in [0, 1]; none where an
    epoch did not measure it."""
    best_epoch: int | None
    """Whose weights were kept; none: unknown."""
    alarms: tuple[Alarm, ...]
    """What the monitors said."""
    switches: tuple[int, ...]
    """[E] switches between single-step and two-step attacks in each epoch (NuAT-H)."""


@dataclass(frozen=True, kw_only=True)
class TrainingCurves(Record):
    """Several runs."""

    kind: ClassVar[str] = "training"

    runs: tuple[RunCurves, ...]
    """In the order asked for."""


def training_curves(runs: Sequence[FinishedRun]) -> TrainingCurves:
    """Return the curves of ``runs``.

    Raises:
        InputError: a run whose metrics were not kept, or that ended before its first epoch.
    """
    found = []
    for run in runs:
        curves = curves_of(run.metrics, run.name, run.seed)
        if not curves.epochs:
            raise InputError(f"{run.folder}: no epoch is recorded in its metrics.jsonl, so there are no curves.")
        found.append(curves)
    return TrainingCurves(runs=tuple(found))


def curves_of(metrics: Sequence[Mapping[str, Any]], name: str, seed: int | None) -> RunCurves:
    """Return the curves in the lines of a run's metrics."""
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    flat = [_flat({key: line[key] for key in ("lr", "train", "validation")}) for line in epochs]
    names = dict.fromkeys(key for line in flat for key in line)
    end: Mapping[str, Any] = next((line for line in reversed(metrics) if line["kind"] == "end"), {})
    counted = tuple(line["epoch"] for line in epochs)
    # a switch is recorded in the middle of an epoch, counted from 0 there
    switched = [line["epoch"] + 1 for line in metrics if line["kind"] == "switch"]
    return RunCurves(
        name=name,
        seed=seed,
        epochs=counted,
        series={key: tuple(line.get(key) for line in flat) for key in names},
        best_epoch=end.get("best_epoch"),
        alarms=tuple(
            Alarm(epoch=line["epoch"], monitor=line["monitor"], message=line["message"])
            for line in metrics
            if line["kind"] == "alarm"
        ),
        switches=tuple(switched.count(epoch) for epoch in counted),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, (int, float)):
            found[prefix + name] = float(value) if value is not None and math.isfinite(value) else None
    return found
