"""How runs went: losses, validation accuracies and schedules over the epochs, with alarms and switches."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nuat.analysis.training_curves import RunCurves, TrainingCurves
from nuat.report.plots import style

_LOSSES = (("loss", style.BLACK, "-"), ("clean_loss", style.BLUE, "--"), ("nuclear", style.VERMILION, ":"))
_ACCURACIES = (("clean", "clean", style.BLUE), ("fgsm", "FGSM", style.GREEN), ("pgd", "PGD-7", style.VERMILION))


def draw(records: Sequence[TrainingCurves]) -> Figure:
    """Draw a row for each run of ``records``."""
    runs = [run for record in records for run in record.runs]
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(1.3 * style.WIDTH, 2.35 * len(runs)), layout="constrained")
        rows = figure.subplots(len(runs), 3, squeeze=False)
        for (losses, accuracies, settings), run in zip(rows, runs, strict=True):
            _losses(losses, run)
            _accuracies(accuracies, run)
            _schedules(settings, run)
            for axis in (losses, accuracies, settings):
                axis.set_xlabel("epoch")
                axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            if len(runs) > 1:
                seed = "" if run.seed is None else f", seed {run.seed}"
                losses.set_ylabel(f"{style.shorten(run.name)}{seed}\n\nmean over the epoch")
    return figure


def _losses(axis: Any, run: RunCurves) -> None:
    for name, shade, dashes in _LOSSES:
        values = run.series.get(f"train.{name}")
        if values is not None:
            axis.plot(
                run.epochs, _gaps(values), color=shade, linestyle=dashes, label=name.replace("_", " "), marker=_dot(run)
            )
    axis.set_title("training loss (nats)")
    axis.set_ylabel("mean over the epoch")
    axis.set_ylim(bottom=0)
    _legend(axis)


def _accuracies(axis: Any, run: RunCurves) -> None:
    # the weights that are shipped are drawn in full
    averaged = any(name.startswith("validation.averaged.") for name in run.series)
    for which, dashes in (("live", ":" if averaged else "-"), ("averaged", "-")):
        for name, label, shade in _ACCURACIES:
            values = run.series.get(f"validation.{which}.{name}")
            if values is not None:
                text = f"{label}, live" if averaged and which == "live" else label
                axis.plot(run.epochs, _gaps(values, 100), color=shade, linestyle=dashes, label=text, marker=_dot(run))
    if run.best_epoch is not None and run.best_epoch > 0:
        axis.axvline(run.best_epoch, color=style.GREY, linewidth=0.9, linestyle="--", label="kept weights")
    for monitor in dict.fromkeys(alarm.monitor for alarm in run.alarms):
        at = [alarm.epoch for alarm in run.alarms if alarm.monitor == monitor]
        axis.plot(
            at, [1.02] * len(at), "v", color=style.BLACK, markersize=5, clip_on=False, label=f"alarm: {monitor}",
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip
    axis.set_title("validation accuracy", pad=9 if run.alarms else 6)
    style.percent(axis, "accuracy")
    # beside the axes: curves fill them from wall to wall
    if axis.lines:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=1.6)


def _schedules(axis: Any, run: RunCurves) -> None:
    axis.plot(run.epochs, _gaps(run.series.get("lr", ())), color=style.BLUE, marker=_dot(run))
    axis.set_title("schedules")
    axis.set_ylabel("learning rate", color=style.BLUE)
    axis.set_ylim(bottom=0)
    lam, two_step = run.series.get("train.lam"), run.series.get("train.two_step")
    if lam is not None:
        other = axis.twinx()
        other.plot(run.epochs, _gaps(lam), color=style.VERMILION, linestyle="--", marker=_dot(run))
        other.set_ylabel("lambda", color=style.VERMILION)
        other.set_ylim(bottom=0)
        other.grid(visible=False)
        other.spines["right"].set_visible(True)
    if two_step is not None:
        shares = _gaps(two_step)
        axis.fill_between(
            run.epochs,
            0,
            shares,
            step="mid",
            color=style.SKY,
            alpha=0.35,
            linewidth=0,
            transform=axis.get_xaxis_transform(),
        )
        axis.set_title(f"schedules; shaded: batches in two steps\n({sum(run.switches):,} switches)")


def _gaps(values: Sequence[float | None], unit: float = 1.0) -> list[float]:
    """Return values with NaN for those that were not measured, where a line has a gap."""
    return [math.nan if value is None else unit * value for value in values]


def _dot(run: RunCurves) -> str:
    """Return the marker: a line of one point would not be seen."""
    return "o" if len(run.epochs) < 3 else ""


def _legend(axis: Any) -> None:
    if axis.lines:
        axis.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.2)
