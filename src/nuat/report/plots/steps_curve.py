"""Accuracy against the steps of PGD."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nuat.analysis.steps_curve import StepsCurve
from nuat.core.eps import eps_text
from nuat.report.plots import curves, style


def draw(records: Sequence[StepsCurve]) -> Figure:
    """Draw a line for each model of ``records`` over the steps, from the clean image (0) on, on a logarithmic axis."""
    models = [(record, curve) for record in records for curve in record.models]
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(4.2 if len(models) <= 4 else 5.6, 2.9), layout="constrained")
        axis = figure.subplots()
        curves.lines(axis, [(record.steps, curve) for record, curve in models])
        axis.set_xscale("symlog", linthresh=1, linscale=0.5)
        ticks = sorted({step for record in records for step in record.steps})
        axis.set_xticks(ticks, ["clean" if tick == 0 else str(tick) for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(left=-0.1)
        axis.set_xlabel("steps of PGD")
        first = records[0]
        told = f"{first.n:,} test images, Linf eps {eps_text(first.eps)}, step {eps_text(first.pgd_alpha)}."
        style.note(figure, [told, "One trajectory; bands: 95 % over images."])
    return figure
