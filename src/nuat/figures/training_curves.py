"""Training curves: losses, rank, accuracies, lambda, learning rate, alarms and switches over the epochs of runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nuat.attacks.catalogue import attack_name
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.common_options import RunOptions
from nuat.figures.figure_record import FigureRecord, require
from nuat.figures.kind import RunFigure
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun
from nuat.records.settings import flat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOSSES = (("loss", style.BLACK, "-"), ("clean_loss", style.BLUE, "--"), ("nuclear", style.VERMILION, ":"))
_MOST_RUNS = 12


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RunOptions):
    """Losses, validation accuracies, lambda, learning rate, alarms and switches over the epochs of runs."""


@dataclass(frozen=True, kw_only=True)
class AlarmMark:
    """Alarm of a monitor."""

    epoch: int
    """Epoch, from 1."""
    monitor: str
    """overfitting, collapse or nonfinite."""
    message: str
    """Line that was printed."""


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """Curves of one run."""

    name: str
    """Name in the figure."""
    seed: int | None
    """Seed of the training."""
    epochs: tuple[int, ...]
    """[E] epochs, from 1."""
    series: dict[str, tuple[float | None, ...]]
    """[E] values of each metric, by its path in the record: lr, train.loss, validation.live.pgd, ...; accuracies in
    [0, 1]. None: not measured in that epoch."""
    best_epoch: int | None
    """Epoch whose weights were kept. None: unknown."""
    alarms: tuple[AlarmMark, ...]
    """Alarms of the monitors."""
    switches: tuple[int, ...]
    """[E] switches between single-step and two-step attacks in each epoch (NuAT-H)."""
    attack: str = "pgd-7"
    """Attack of the validation, whose accuracies the series call pgd."""

    def __post_init__(self) -> None:
        series = (*self.series.values(), self.switches)
        require(all(len(values) == len(self.epochs) for values in series), "a value for each epoch in every series")


@dataclass(frozen=True, kw_only=True)
class TrainingCurves(FigureRecord):
    """Training curves of several runs."""

    kind: ClassVar[str] = "training"

    runs: tuple[RunCurves, ...]
    """Curves in the order of the runs."""

    def __post_init__(self) -> None:
        require(bool(self.runs), "at least one run")


def training_curves(runs: Sequence[FinishedRun]) -> TrainingCurves:
    """Return the training curves of ``runs``.

    Raises:
        InputError: a run without metrics, or one that ended before its first epoch did.
    """
    found = []
    for run in runs:
        curves = curves_of(run.metrics, run.name, run.seed, run.config)
        if not curves.epochs:
            raise InputError(f"{run.folder}: no epoch is recorded in its metrics.jsonl, so there are no curves.")
        found.append(curves)
    return TrainingCurves(runs=tuple(found))


def curves_of(
    metrics: Sequence[Mapping[str, Any]], name: str, seed: int | None, config: Mapping[str, Any]
) -> RunCurves:
    """Return the curves in the metrics (lines of metrics.jsonl) of a run; ``config``: its settings, as JSON values."""
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    numbers = [_numbers({key: line[key] for key in ("lr", "train", "validation")}) for line in epochs]
    names = dict.fromkeys(key for line in numbers for key in line)
    end: Mapping[str, Any] = next((line for line in reversed(metrics) if line["kind"] == "end"), {})
    counted = tuple(line["epoch"] for line in epochs)
    # a switch is recorded during an epoch, which counts from 0 there
    switched = [line["epoch"] + 1 for line in metrics if line["kind"] == "switch"]
    return RunCurves(
        name=name,
        seed=seed,
        epochs=counted,
        series={key: tuple(line.get(key) for line in numbers) for key in names},
        best_epoch=end.get("best_epoch"),
        alarms=tuple(
            AlarmMark(epoch=line["epoch"], monitor=line["monitor"], message=line["message"])
            for line in metrics
            if line["kind"] == "alarm"
        ),
        switches=tuple(switched.count(epoch) for epoch in counted),
        attack=config.get("validate_attack", RunCurves.attack),
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        name: float(value) if value is not None and math.isfinite(value) else None
        for name, value in flat(values).items()
        if value is None or isinstance(value, (int, float))
    }


def save(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any], path: Path) -> None:
    """Draw the training curves of one run to ``path`` (PNG, SVG or PDF).

    Args:
        metrics: lines of metrics.jsonl.
        config: settings of the run, as JSON values.
        path: file to write, whole.
    """
    with style.applied():
        figure = draw([TrainingCurves(runs=(curves_of(metrics, "", None, config),))])
    style.save(figure, path)


def _measure(asked: TrainingOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> TrainingCurves:
    if len(runs) > _MOST_RUNS:
        raise InputError(f"{len(runs)} runs do not fit into one figure; name at most {_MOST_RUNS}.")
    return training_curves(runs)


def draw(records: Sequence[TrainingCurves]) -> "Figure":
    """Draw a row for each run: losses, validation accuracies, schedules."""
    from matplotlib.ticker import MaxNLocator

    runs = [run for record in records for run in record.runs]
    figure = style.new_figure(1.3 * style.WIDTH, 2.35 * len(runs))
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
            label = name.replace("_", " ")
            axis.plot(run.epochs, _gaps(values), color=shade, linestyle=dashes, label=label, marker=_dot(run))
    axis.set_title("training loss (nats)")
    axis.set_ylabel("mean over the epoch")
    axis.set_ylim(bottom=0)
    if axis.lines:
        axis.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.2)
    rank = run.series.get("train.rank")
    if rank is not None:
        other = _right_axis(axis, run, rank, style.GREEN, "-.")
        other.set_ylabel("effective rank of the logit differences", color=style.GREEN)


def _accuracies(axis: Any, run: RunCurves) -> None:
    validated = [
        i for i in range(len(run.epochs))
        if any(values[i] is not None for name, values in run.series.items() if name.startswith("validation."))
    ]  # fmt: skip
    epochs = [run.epochs[i] for i in validated]
    dot = "" if len(epochs) == len(run.epochs) > 2 else "o"
    # solid lines: the weights that are kept
    averaged = any(name.startswith("validation.averaged.") for name in run.series)
    attack = ("pgd", attack_name(run.attack), style.VERMILION)
    for which, dashes in (("live", ":" if averaged else "-"), ("averaged", "-")):
        for name, label, shade in (("clean", "clean", style.BLUE), ("fgsm", "FGSM", style.GREEN), attack):
            values = run.series.get(f"validation.{which}.{name}")
            if values is not None:
                text = f"{label}, live" if averaged and which == "live" else label
                accuracies = _gaps([values[i] for i in validated], 100)
                axis.plot(epochs, accuracies, color=shade, linestyle=dashes, label=text, marker=dot)
    if run.best_epoch is not None and run.best_epoch > 0:
        label = "kept weights"
        taus = dict(zip(run.epochs, run.series.get("validation.averaged.tau", ()), strict=False))
        if taus.get(run.best_epoch) is not None:  # several averages were validated
            label += f"\n(decay {taus[run.best_epoch]:g})"
        axis.axvline(run.best_epoch, color=style.GREY, linewidth=0.9, linestyle="--", label=label)
    for monitor in dict.fromkeys(alarm.monitor for alarm in run.alarms):
        at = [alarm.epoch for alarm in run.alarms if alarm.monitor == monitor]
        axis.plot(
            at, [1.02] * len(at), "v", color=style.BLACK, markersize=5, clip_on=False, label=f"alarm: {monitor}",
            transform=axis.get_xaxis_transform(),
        )  # fmt: skip
    axis.set_title("validation accuracy", pad=9 if run.alarms else 6)
    style.percent_axis(axis, "accuracy")
    # outside the axes, which curves fill from side to side
    if axis.lines:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=1.6)


def _schedules(axis: Any, run: RunCurves) -> None:
    if "lr" in run.series:
        axis.plot(run.epochs, _gaps(run.series["lr"]), color=style.BLUE, marker=_dot(run))
    axis.set_title("schedules")
    axis.set_ylabel("learning rate", color=style.BLUE)
    axis.set_ylim(bottom=0)
    lam, two_step = run.series.get("train.lam"), run.series.get("train.two_step")
    if lam is not None:
        other = _right_axis(axis, run, lam, style.VERMILION, "--")
        other.set_ylabel("lambda", color=style.VERMILION)
    if two_step is not None:
        across = axis.get_xaxis_transform()
        look = {"step": "mid", "color": style.SKY, "alpha": 0.35, "linewidth": 0}
        axis.fill_between(run.epochs, 0, _gaps(two_step), transform=across, **look)
        axis.set_title(f"schedules; shaded: two-step batches\n({sum(run.switches):,} switches)")


def _right_axis(axis: Any, run: RunCurves, values: Sequence[float | None], shade: str, dashes: str) -> Any:
    """Draw ``values`` over the epochs on an axis of their own, to the right of ``axis``; return it."""
    other = axis.twinx()
    other.plot(run.epochs, _gaps(values), color=shade, linestyle=dashes, marker=_dot(run))
    other.set_ylim(bottom=0)
    other.grid(visible=False)
    other.spines["right"].set_visible(True)
    return other


def _gaps(values: Sequence[float | None], unit: float = 1.0) -> list[float]:
    """Return values with NaN, a gap in the line, where nothing was measured."""
    return [math.nan if value is None else unit * value for value in values]


def _dot(run: RunCurves) -> str:
    """Return the marker: a line of one point would be invisible."""
    return "o" if len(run.epochs) < 3 else ""


FIGURE = RunFigure(
    record=TrainingCurves,
    options=TrainingOptions,
    summary="losses, accuracies, schedules, alarms and switches over the epochs",
    title="Training curves",
    caption=(
        "Losses, validation accuracies and schedules over the epochs; for NuAT the effective rank of the logit "
        "differences (squared ratio of their nuclear and Frobenius norms, section 5.2). Accuracy under PGD that drops "
        "while accuracy under FGSM rises is catastrophic overfitting."
    ),
    measure=_measure,
    draw=draw,
)
