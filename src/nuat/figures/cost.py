"""Robust accuracy against the cost of training (Figure 3b): seconds, and images passed forward and backward.

Seconds depend on the machine, passes do not. A run without an attack, or without a recorded cost, stays in the record
with None in that place.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table

from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.common_attack import (
    RunsUnderAttack,
    attack_clause,
    check_same_line_up,
    of_one_part,
    setting_of,
    strongest_attack,
)
from nuat.figures.common_options import RunOptions
from nuat.figures.figure_record import require
from nuat.figures.kind import RunFigure
from nuat.hardware import hardware_text
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun, check_same_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nuat.figures.point_names import NamedPoint, Polyline


@dataclass(frozen=True, kw_only=True)
class CostOptions(RunOptions):
    """Figure 3b: robust accuracy against training time and against passes, with the Pareto front."""

    attack: str | None = None
    """Attack whose accuracy is plotted. None: AutoAttack, else the strongest that every run has."""
    baseline: str | None = None
    """Method whose passes count as 1 in the table's last column. None: the method with the fewest."""


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """Cost and accuracy of one run."""

    method: str
    """Name of the method. Runs of one method differ in their seeds."""
    seed: int | None
    """Seed of the training."""
    accuracy: float | None
    """Accuracy under the attack of the record, in [0, 1]. None: not measured."""
    n: int | None
    """Number of images attacked."""
    seconds: float | None
    """Time of training [s]."""
    passes: int | None
    """Images forward plus images backward in training."""
    hardware: str | None
    """Device that it was trained on."""

    def __post_init__(self) -> None:
        require(self.accuracy is None or 0 <= self.accuracy <= 1, "an accuracy in [0, 1]")
        require(self.n is None or self.n >= 1, "n >= 1")
        require(all(cost is None or cost >= 0 for cost in (self.seconds, self.passes)), "seconds and passes >= 0")


@dataclass(frozen=True)
class MethodCost:
    """Runs of one method together."""

    name: str
    seeds: int
    """Runs behind the numbers: those that were attacked, or all if none was."""
    runs: int
    """All runs of the method."""
    accuracy: float | None
    """Mean over the seeds."""
    interval: tuple[float, float] | None
    """One seed: 95 % over images drawn like these. Several: the mean -+ their standard deviation."""
    seconds: float | None
    """Mean over the seeds."""
    passes: float | None
    """Mean over the seeds."""


@dataclass(frozen=True, kw_only=True)
class Cost(RunsUnderAttack):
    """Costs and accuracies of runs under one attack."""

    kind: ClassVar[str] = "cost"

    points: tuple[CostPoint, ...]
    """One for each run."""
    baseline: str | None = None
    """Method whose passes count as 1. None: the method with the fewest."""

    def __post_init__(self) -> None:
        names = {point.method for point in self.points}
        require(self.baseline is None or self.baseline in names, f"a baseline among {', '.join(sorted(names))}")

    @property
    def methods(self) -> tuple[MethodCost, ...]:
        """The points of each method together, in their order."""
        names = dict.fromkeys(point.method for point in self.points)
        return tuple(_method(name, [p for p in self.points if p.method == name]) for name in names)


def cost(runs: Sequence[FinishedRun], attack: str | None = None, baseline: str | None = None) -> Cost:
    """Return the costs of ``runs`` and their accuracies under ``attack``. None: see ``STRONGEST_FIRST``.

    Where some runs were attacked on test images, those attacked on validation images alone (such as the trials of a
    search for settings) are left out.

    Raises:
        InputError: no run has the attack, no run is of the method ``baseline``, or the runs differ in data, network
            or ball.
    """
    check_same_data(runs)
    runs = of_one_part(runs)
    chosen = attack or strongest_attack(runs)
    names = sorted({run.name for run in runs})
    if baseline is not None and baseline not in names:
        raise InputError(f"no run is of the method {baseline!r}; --baseline takes one of: {', '.join(names)}.")
    measured = [run for run in runs if chosen in run.accuracies]
    if not measured:
        there = sorted({name for run in runs for name in run.accuracies})
        raise InputError(f"no run has {chosen!r}; measured were: {', '.join(there) or 'none'}. Give another --attack.")
    check_same_line_up(runs, chosen)
    return Cost(
        **setting_of(runs, chosen),
        points=tuple(_point(run, chosen) for run in runs),
        baseline=baseline,
    )


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return the positions of the Pareto front, by rising cost.

    No other point is as cheap and better, or cheaper and as good. Of equal points the first counts.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i], i))
    front: list[int] = []
    for i in order:
        if not front or values[i] > values[front[-1]]:
            front.append(i)
    return front


def _point(run: FinishedRun, attack: str) -> CostPoint:
    found = run.accuracies.get(attack)
    counted = run.forwards is not None and run.backwards is not None
    return CostPoint(
        method=run.name,
        seed=run.seed,
        accuracy=found.value if found else None,
        n=found.n if found else None,
        seconds=run.seconds,
        passes=(run.forwards or 0) + (run.backwards or 0) if counted else None,
        hardware=run.hardware,
    )


def _method(name: str, points: Sequence[CostPoint]) -> MethodCost:
    attacked = [point for point in points if point.accuracy is not None and point.n is not None]
    measured = [(p.accuracy, p.n) for p in attacked if p.accuracy is not None and p.n is not None]
    accuracy, interval = None, None
    if measured:
        accuracy = statistics.fmean(value for value, _ in measured)
        value, n = measured[0]
        spread = statistics.stdev(value for value, _ in measured) if len(measured) > 1 else 0.0
        several = (max(0.0, accuracy - spread), min(1.0, accuracy + spread))
        interval = several if len(measured) > 1 else wilson_interval(round(value * n), n)
    # a point of the figure needs cost and accuracy of the same runs
    counted = attacked or points
    return MethodCost(
        name=name,
        seeds=len(counted),
        runs=len(points),
        accuracy=accuracy,
        interval=interval,
        seconds=_mean([p.seconds for p in counted]),
        passes=_mean([p.passes for p in counted]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _measure(asked: CostOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> Cost:
    record = cost(runs, asked.attack, asked.baseline)
    if len(record.points) < len(runs):
        left = len(runs) - len(record.points)
        reporter.message(f"left out: {left} of {len(runs)} runs, attacked on validation images alone")
    return record


def _table(record: Cost) -> Table:
    table = Table(title=f"Accuracy under {record.attack}, {record.images} images", title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("seeds", "accuracy %", "interval", "training (s)", "passes (M)", "passes, multiple"):
        table.add_column(name, justify="right")
    known = {method.name: method.passes for method in record.methods if method.passes}
    unit = known.get(record.baseline) if record.baseline else min(known.values(), default=None)
    for method in record.methods:
        interval = method.interval
        table.add_row(
            method.name,
            str(method.runs) if method.seeds == method.runs else f"{method.seeds} of {method.runs}",
            "-" if method.accuracy is None else f"{100 * method.accuracy:.2f}",
            "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}",
            "-" if method.seconds is None else f"{method.seconds:.0f}",
            "-" if method.passes is None else f"{method.passes / 1e6:.2f}",
            "-" if method.passes is None or unit is None else f"{method.passes / unit:.1f}",
        )
    return table


def draw(records: Sequence[Cost]) -> "Figure":
    """Draw two panels: against seconds, and against images passed forward and backward. Upper left is better.

    Raises:
        InputError: the records differ in attack, images or ball.
    """
    from nuat.figures import point_names

    first = records[0]
    if not all(record.shares_setting(first) for record in records):
        raise InputError("costs under different attacks, balls or kinds of images cannot share a figure.")
    methods = [method for record in records for method in record.methods]
    points = [point for record in records for point in record.points]
    hardware = sorted({hardware_text(p.hardware) for p in points if p.hardware is not None and p.seconds is not None})
    figure = style.new_figure(style.WIDTH, 3.3)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_ylabel(f"accuracy {attack_clause(first.attack)} (%)")
    left.set_xlabel("training time (s)")
    right.set_xlabel("images forward + backward (millions)")
    style.note(figure, _small_print(first, methods, hardware))
    named = []
    for axis, costs in ((left, [m.seconds for m in methods]), (right, [_millions(m.passes) for m in methods])):
        named.append(_panel(axis, methods, costs))
    # names can be placed only once the layout is final
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axis, (points_, obstacles) in zip((left, right), named, strict=True):
        point_names.place_names(axis, points_, obstacles)
    return figure


def _panel(
    axis: Any, methods: Sequence[MethodCost], costs: Sequence[float | None]
) -> tuple[list["NamedPoint"], list["Polyline"]]:
    """Draw the methods that have both numbers, and return what to name, and the lines that names keep off."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    from nuat.figures.point_names import NamedPoint

    known = [
        (cost, 100 * m.accuracy, m) for m, cost in zip(methods, costs, strict=True) if cost and m.accuracy is not None
    ]
    if not known:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=style.GREY)
        return [], []
    front = pareto([x for x, _, _ in known], [y for _, y, _ in known])
    lines: list[Polyline] = []
    for i, (x, y, method) in enumerate(known):
        assert method.interval is not None  # it comes with the accuracy
        bottom, top = min(y, 100 * method.interval[0]), max(y, 100 * method.interval[1])
        look = ("o", style.BLUE) if i in front else ("s", style.GREY)
        axis.errorbar(
            x, y, yerr=[[y - bottom], [top - y]], fmt=look[0], color=look[1], capsize=2, elinewidth=0.8, zorder=3
        )
        lines.append([(x, bottom), (x, top)])
    low, high = min(x for x, _, _ in known) / 1.5, max(x for x, _, _ in known) * 1.7
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.set_ylim(-4, 109)  # room for names above good methods
    axis.set_yticks(range(0, 101, 20))
    axis.set_xticks(_round_numbers(low, high))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    lines.append(_stairs([known[i][:2] for i in front], high))
    axis.plot(*zip(*lines[-1], strict=True), color=style.BLUE, linewidth=1, alpha=0.6, zorder=2)
    named = [
        NamedPoint(x, y, method.name, style.BLUE if i in front else "#333333") for i, (x, y, method) in enumerate(known)
    ]
    return named, lines


def _stairs(front: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the corners of the line below which every method is beaten, up to ``end``."""
    ends = [x for x, _ in front[1:]] + [end]
    return [corner for (x, y), until in zip(front, ends, strict=True) for corner in ((x, y), (until, y))]


def _millions(passes: float | None) -> float | None:
    return None if passes is None else passes / 1e6


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ... within the ends of a logarithmic axis; over three decades only the powers of ten."""
    steps = (1,) if high / low > 1000 else (1, 2, 5)
    return [s * 10.0**e for e in range(-9, 16) for s in steps if low <= s * 10.0**e <= high]


def _small_print(record: Cost, methods: Sequence[MethodCost], hardware: Sequence[str]) -> list[str]:
    several = "; of several seeds, the standard deviation" if any(method.seeds > 1 for method in methods) else ""
    missing = [method.name for method in methods if method.accuracy is None]
    some = [f"{m.name} {m.seeds} of {m.runs} seeds" for m in methods if m.accuracy is not None and m.seeds < m.runs]
    uncounted = [method.name for method in methods if method.seconds is None or method.passes is None]
    lines = [
        f"{record.images.capitalize()} images{record.ball}. Bars: 95 % over images{several}.",
        "Blue dots: the Pareto front. No method is better at the same cost or below.",
        f"Trained on: {'; '.join(hardware) or 'unknown'}{'; times of different machines' * (len(hardware) > 1)}.",
    ]
    lines += [f"Some seeds were not attacked; cost and accuracy are of {', '.join(some)}."] if some else []
    lines += [f"Not measured {attack_clause(record.attack)}: {', '.join(missing)}."] if missing else []
    return lines + ([f"Time or passes not recorded: {', '.join(uncounted)}."] if uncounted else [])


FIGURE = RunFigure(
    record=Cost,
    options=CostOptions,
    summary="Figure 3b: robust accuracy against training time and passes",
    title="Robust accuracy against the cost of training",
    caption=(
        "Accuracy under attack against training time, and against the images that training passed forward and "
        "backward, which does not depend on the machine. Upper left is better."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
)
