"""Clean and robust accuracy against lambda."""

import statistics
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nuat.analysis.lambda_sweep import LambdaPoint, LambdaSweep
from nuat.attacks.catalogue import attack_name
from nuat.core.eps import eps_text
from nuat.errors import InputError
from nuat.evaluation.results import wilson_interval
from nuat.report.plots import style


def draw(records: Sequence[LambdaSweep]) -> Figure:
    """Draw clean and robust accuracy over lambda, a line for each series of runs.

    Raises:
        InputError: the records are of different attacks, images or eps.
    """
    first = records[0]
    if any((r.attack, r.images, r.eps) != (first.attack, first.images, first.eps) for r in records):
        raise InputError("sweeps under different attacks, eps or kinds of images cannot share a figure.")
    points = [point for record in records for point in record.points]
    names = list(dict.fromkeys(point.series for point in points))
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(4.2 if names == [""] else 5.6, 2.9), layout="constrained")
        axis = figure.subplots()
        for i, name in enumerate(names):
            of_series = [point for point in points if point.series == name]
            _line(axis, [(p.lam, p.clean, p.n_clean) for p in of_series], style.BLUE, i)
            _line(axis, [(p.lam, p.robust, p.n_robust) for p in of_series], style.VERMILION, i)
        style.percent(axis, "accuracy")
        axis.set_xlabel("lambda in the last epoch")
        handles: list[Any] = [
            Line2D([], [], color=style.BLUE, label="clean"),
            Line2D([], [], color=style.VERMILION, label=attack_name(first.attack)),
        ]
        if names != [""]:
            handles += [
                Line2D(
                    [], [], color=style.GREY, marker=style.marker(i), linestyle=style.DASHES[i % 4], label=name or "-"
                )
                for i, name in enumerate(names)
            ]
        axis.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
        style.note(figure, _small_print(first, points))
    return figure


def _line(axis: Any, values: Sequence[tuple[float, float | None, int | None]], shade: str, index: int) -> None:
    """Draw the means over seeds at each lambda; a lambda without a measurement has no point."""
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
            lams, means, yerr=bars, color=shade, marker=style.marker(index), linestyle=style.DASHES[index % 4],
            capsize=2, elinewidth=0.8,
        )  # fmt: skip


def _ends(values: Sequence[tuple[float, int]]) -> tuple[float, float]:
    if len(values) == 1:
        ((accuracy, n),) = values
        return wilson_interval(round(accuracy * n), n)
    mean, spread = statistics.fmean(a for a, _ in values), statistics.stdev(a for a, _ in values)
    return mean - spread, mean + spread


def _small_print(record: LambdaSweep, points: Sequence[LambdaPoint]) -> list[str]:
    eps = "" if record.eps is None else f", Linf eps {eps_text(record.eps)}"
    return [
        f"{len(points)} runs of NuAT, {record.images} images{eps}.",
        "Bars: one seed, 95 % over images; several, mean \u00b1 standard deviation.",
    ]
