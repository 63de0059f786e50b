"""Clean and robust accuracy against lambda, which trades one for the other (section 5.2)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nuat.attacks.catalogue import attack_name
from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.common_attack import RunsUnderAttack, check_same_line_up, of_one_part, setting_of, strongest_attack
from nuat.figures.common_options import RunOptions
from nuat.figures.figure_record import require
from nuat.figures.kind import RunFigure
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun, check_same_data
from nuat.records.methods import differences

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class LambdaSweepOptions(RunOptions):
    """Clean and robust accuracy of NuAT runs against lambda."""

    attack: str | None = None
    """Attack of the robust accuracy. None: AutoAttack, else the strongest that every run has."""


@dataclass(frozen=True, kw_only=True)
class LambdaPoint:
    """One run."""

    series: str
    """Settings other than lambda and the seed in which the runs differ. Empty: they are all the same."""
    seed: int | None
    """Seed of the training."""
    lam: float
    """Lambda in the last epoch, at the end of its ramp."""
    clean: float | None
    """Accuracy on clean images, in [0, 1]. None: not measured."""
    robust: float | None
    """Accuracy under the attack of the record. None: not measured."""
    n_clean: int | None
    """Number of images of the clean accuracy."""
    n_robust: int | None
    """Number of images of the robust accuracy."""

    def __post_init__(self) -> None:
        require(all(value is None or 0 <= value <= 1 for value in (self.clean, self.robust)), "accuracies in [0, 1]")
        require(all(n is None or n >= 1 for n in (self.n_clean, self.n_robust)), "numbers of images >= 1")


@dataclass(frozen=True, kw_only=True)
class LambdaSweep(RunsUnderAttack):
    """Runs of NuAT under one attack."""

    kind: ClassVar[str] = "lambda-sweep"

    points: tuple[LambdaPoint, ...]
    """One for each run, by series, then lambda."""


def has_lambda(run: FinishedRun) -> bool:
    """Return whether a run is of NuAT and its metrics hold lambda."""
    return str(_defense(run).get("class", "")).startswith("NuAT") and final_lambda(run) is not None


def final_lambda(run: FinishedRun) -> float | None:
    """Return lambda in the last epoch. None: the metrics do not hold it."""
    values = [line["train"].get("lam") for line in run.metrics if line.get("kind") == "epoch" and "train" in line]
    return float(values[-1]) if values and values[-1] is not None else None


def lambda_sweep(runs: Sequence[FinishedRun], attack: str | None = None) -> LambdaSweep:
    """Return the accuracies of ``runs``, each with a lambda, under ``attack``. None: the strongest that every run has.

    Raises:
        InputError: no runs, a run without a lambda or an attack, or runs of different data.
    """
    for run in runs:
        if not has_lambda(run):
            kind = _defense(run).get("class", "unknown")
            raise InputError(f"{run.folder}: no run of NuAT with its metrics (defense {kind}), so it has no lambda.")
    if not runs:
        raise InputError("no run of NuAT with its metrics was given, so there is no lambda to plot.")
    check_same_data(runs)
    runs = of_one_part(runs)
    chosen = attack or strongest_attack(runs)
    measured = [run for run in runs if chosen in run.accuracies]
    if not measured:
        raise InputError(f"the runs have no robust accuracy {chosen}; give another --attack.")
    check_same_line_up(runs, chosen)
    names = differences([run.config for run in runs], ("defense.lam.",))
    points = [_point(run, name, chosen) for run, name in zip(runs, names, strict=True)]
    return LambdaSweep(
        **setting_of(runs, chosen),
        points=tuple(sorted(points, key=lambda point: (point.series, point.lam, point.seed or 0))),
    )


def _defense(run: FinishedRun) -> Mapping[str, Any]:
    found = run.config.get("defense", {})
    return found if isinstance(found, Mapping) else {}


def _point(run: FinishedRun, name: str, attack: str) -> LambdaPoint:
    clean, robust, lam = run.accuracies.get("clean"), run.accuracies.get(attack), final_lambda(run)
    assert lam is not None  # lambda_sweep refuses the others
    return LambdaPoint(
        series=name,
        seed=run.seed,
        lam=lam,
        clean=clean.value if clean else None,
        robust=robust.value if robust else None,
        n_clean=clean.n if clean else None,
        n_robust=robust.n if robust else None,
    )


def _measure(asked: LambdaSweepOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> LambdaSweep:
    kept = [run for run in runs if has_lambda(run)]
    record = lambda_sweep(kept or runs, asked.attack)
    for left, why in (
        (len(runs) - len(kept), "which have no lambda"),
        (len(kept) - len(record.points), "attacked on validation images alone"),
    ):
        if left:
            reporter.message(f"left out: {left} of {len(runs)} runs, {why}")
    return record


def draw(records: Sequence[LambdaSweep]) -> "Figure":
    """Draw clean and robust accuracy over lambda, a line for each series of runs.

    Raises:
        InputError: the records differ in attack, images or ball.
    """
    from matplotlib.lines import Line2D

    first = records[0]
    if not all(record.shares_setting(first) for record in records):
        raise InputError("sweeps under different attacks, balls or kinds of images cannot share a figure.")
    points = [point for record in records for point in record.points]
    names = list(dict.fromkeys(point.series for point in points))
    figure = style.new_figure(4.2 if names == [""] else 5.6, 2.9)
    axis = figure.subplots()
    for i, name in enumerate(names):
        of_series = [point for point in points if point.series == name]
        _line(axis, [(p.lam, p.clean, p.n_clean) for p in of_series], style.BLUE, i)
        _line(axis, [(p.lam, p.robust, p.n_robust) for p in of_series], style.VERMILION, i)
    style.percent_axis(axis, "accuracy")
    axis.set_xlabel("lambda in the last epoch")
    handles: list[Any] = [
        Line2D([], [], color=style.BLUE, label="clean"),
        Line2D([], [], color=style.VERMILION, label=attack_name(first.attack)),
    ]
    if names != [""]:
        handles += [
            Line2D([], [], color=style.GREY, marker=style.marker(i), linestyle=style.dashes(i), label=name or "-")
            for i, name in enumerate(names)
        ]
    axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
    style.note(figure, _small_print(first, points))
    return figure


def _line(axis: Any, values: Sequence[tuple[float, float | None, int | None]], shade: str, index: int) -> None:
    """Draw the mean over the seeds at each lambda; a lambda without a measurement has no point."""
    at: dict[float, list[tuple[float, int]]] = {}
    for lam, accuracy, n in values:
        if accuracy is not None and n is not None:
            at.setdefault(lam, []).append((accuracy, n))
    lams = sorted(at)
    means = [100 * statistics.fmean(accuracy for accuracy, _ in at[lam]) for lam in lams]
    ends = [_ends(at[lam]) for lam in lams]
    bars = [
        [max(0.0, mean - 100 * low) for mean, (low, _) in zip(means, ends, strict=True)],
        [max(0.0, 100 * high - mean) for mean, (_, high) in zip(means, ends, strict=True)],
    ]
    if lams:
        axis.errorbar(
            lams, means, yerr=bars, color=shade, marker=style.marker(index), linestyle=style.dashes(index), capsize=2,
            elinewidth=0.8,
        )  # fmt: skip


def _ends(values: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Return the ends of a bar: 95 % over images for one seed, else the mean -+ the standard deviation."""
    if len(values) == 1:
        ((accuracy, n),) = values
        return wilson_interval(round(accuracy * n), n)
    mean, spread = statistics.fmean(a for a, _ in values), statistics.stdev(a for a, _ in values)
    return mean - spread, mean + spread


def _small_print(record: LambdaSweep, points: Sequence[LambdaPoint]) -> list[str]:
    return [
        f"{len(points)} runs of NuAT, {record.images} images{record.ball}.",
        "Bars: one seed, 95 % over images; several, mean \u00b1 standard deviation.",
    ]


FIGURE = RunFigure(
    record=LambdaSweep,
    options=LambdaSweepOptions,
    summary="clean and robust accuracy against lambda",
    title="Lambda sweep",
    caption=(
        "Clean and robust accuracy against the weight of the regulariser. High is good; a broad top means that the "
        "choice matters little."
    ),
    measure=_measure,
    draw=draw,
)
