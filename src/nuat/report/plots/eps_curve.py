"""Accuracy under PGD against eps."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from nuat.analysis.eps_curve import EpsCurve
from nuat.core.eps import eps_text
from nuat.report.plots import curves, style


def draw(records: Sequence[EpsCurve]) -> Figure:
    """Draw a line for each model of ``records``; the radius that they were trained for is marked."""
    models = [(record, curve) for record in records for curve in record.models]
    marks = sorted({record.eps for record in records})
    in_steps = all("/" in eps_text(eps) for eps in marks)  # 8/255 rather than 0.3
    unit = 255.0 if in_steps else 1.0
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(4.2 if len(models) <= 4 else 5.6, 2.9), layout="constrained")
        axis = figure.subplots()
        for eps in marks:
            axis.axvline(eps * unit, color=style.GREY, linewidth=0.9, linestyle="--")
            axis.text(
                eps * unit, 1.01, f"eps {eps_text(eps)}", transform=axis.get_xaxis_transform(), ha="center",
                va="bottom", fontsize=6.5, color=style.GREY,
            )  # fmt: skip
        curves.lines(axis, [([radius * unit for radius in record.radii], curve) for record, curve in models])
        axis.set_xlabel("Linf radius (1/255)" if in_steps else "Linf radius (pixels in [0, 1])")
        first = records[0]
        style.note(figure, [f"{first.n:,} test images; PGD-{first.steps} at each radius. Bands: 95 % over images."])
    return figure
