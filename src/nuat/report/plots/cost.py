"""Figure 3b: robust accuracy against the cost of training, with the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from nuat.analysis.cost import Cost, Method, pareto
from nuat.core.eps import eps_text
from nuat.errors import InputError
from nuat.report.plots import labels, style
from nuat.report.plots.attacks import under


def draw(records: Sequence[Cost]) -> Figure:
    """Draw two panels: against seconds, and against images passed forward and backward; to the upper left is better.

    Raises:
        InputError: the records are of different attacks, images or eps.
    """
    first = records[0]
    if any((r.attack, r.images, r.eps) != (first.attack, first.images, first.eps) for r in records):
        raise InputError("costs under different attacks, eps or kinds of images cannot share a figure.")
    methods = [method for record in records for method in record.methods]
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_ylabel(f"accuracy {under(first.attack)} (%)")
        hardware = sorted(
            {p.hardware for r in records for p in r.points if p.hardware is not None and p.seconds is not None}
        )
        left.set_xlabel("training time (s)")
        right.set_xlabel("images forward + backward (millions)")
        style.note(figure, _small_print(first, methods, hardware))
        drawn = []
        for axis, costs in ((left, [m.seconds for m in methods]), (right, [_millions(m.passes) for m in methods])):
            drawn.append(_panel(axis, methods, costs))
        # the layout must be final before the names can be placed
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axis, panel in zip((left, right), drawn, strict=True):
            labels.place(axis, panel.points, panel.names, panel.colours, panel.lines)
    return figure


@dataclass(frozen=True)
class _Panel:
    """What names are to be placed beside, in data coordinates."""

    points: list[tuple[float, float]]
    names: list[str]
    colours: list[str]
    lines: list[list[tuple[float, float]]]
    """The front and the bars, which names keep off."""


def _panel(axis: Any, methods: Sequence[Method], costs: Sequence[float | None]) -> _Panel:
    """Draw the methods that have both numbers."""
    known = [
        (cost, 100 * m.accuracy, m) for m, cost in zip(methods, costs, strict=True) if cost and m.accuracy is not None
    ]
    if not known:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=style.GREY)
        return _Panel([], [], [], [])
    front = pareto([x for x, _, _ in known], [y for _, y, _ in known])
    lines: list[list[tuple[float, float]]] = []
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
    axis.set_ylim(-4, 104)
    axis.set_xticks(_round_numbers(low, high))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    lines.append(_stairs([known[i][:2] for i in front], high))
    axis.plot(*zip(*lines[-1], strict=True), color=style.BLUE, linewidth=1, alpha=0.6, zorder=2)
    return _Panel(
        points=[(x, y) for x, y, _ in known],
        names=[method.name for _, _, method in known],
        colours=[style.BLUE if i in front else "#333333" for i in range(len(known))],
        lines=lines,
    )


def _stairs(front: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the corners of the line below which every method is beaten, up to ``end``."""
    ends = [x for x, _ in front[1:]] + [end]
    return [corner for (x, y), until in zip(front, ends, strict=True) for corner in ((x, y), (until, y))]


def _millions(passes: float | None) -> float | None:
    return None if passes is None else passes / 1e6


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ... between the ends of a logarithmic axis; over three decades the powers of ten alone."""
    steps = (1,) if high / low > 1000 else (1, 2, 5)
    return [s * 10.0**e for e in range(-9, 16) for s in steps if low <= s * 10.0**e <= high]


def _small_print(record: Cost, methods: Sequence[Method], hardware: Sequence[str]) -> list[str]:
    eps = "" if record.eps is None else f", Linf eps {eps_text(record.eps)}"
    several = "; of several seeds, the standard deviation" if any(method.seeds > 1 for method in methods) else ""
    missing = [method.name for method in methods if method.accuracy is None]
    some = [f"{m.name} {m.seeds} of {m.runs} seeds" for m in methods if m.accuracy is not None and m.seeds < m.runs]
    uncounted = [method.name for method in methods if method.seconds is None or method.passes is None]
    lines = [
        f"{record.images.capitalize()} images{eps}. Bars: 95 % over images{several}.",
        "Blue dots: the Pareto front, which no method beats at its cost or below.",
        f"Trained on: {'; '.join(hardware) or 'unknown'}{'; times of different machines' * (len(hardware) > 1)}.",
    ]
    lines += [f"Cost and accuracy of the seeds that were attacked so: {', '.join(some)}."] if some else []
    lines += [f"Not measured {under(record.attack)}: {', '.join(missing)}."] if missing else []
    return lines + ([f"Time or passes not recorded: {', '.join(uncounted)}."] if uncounted else [])
