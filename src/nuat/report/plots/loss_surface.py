"""Figure 1: the loss around an image as a surface and as contours, one column a model, one colour scale."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nuat.analysis.loss_surface import LossSurface, ModelSurface
from nuat.core.eps import eps_text
from nuat.report.plots import style

_COLUMNS = 4
_LINE = 0.13
"""inches: height of a line of small print."""


def draw(records: Sequence[LossSurface]) -> Figure:
    """Draw the surfaces of all models of ``records``; the height and the colour are the loss in nats."""
    panels = [(record, model) for record in records for model in record.models]
    losses = [np.asarray(model.loss) for _, model in panels]
    norm = Normalize(min(loss.min() for loss in losses), max(loss.max() for loss in losses))
    columns = min(_COLUMNS, len(panels))
    blocks = -(-len(panels) // columns)
    with mpl.rc_context(style.RC):
        width = max(3.4, style.WIDTH * columns / _COLUMNS + 0.5)
        told = style.wrapped(_small_print(records), width)
        below = 0.06 + _LINE * len(told)
        height = 3.6 * blocks + 0.2 + below
        figure = Figure(figsize=(width, height))
        left, right, top, bottom = 0.55 / width, 1 - 0.75 / width, 1 - 0.35 / height, (0.42 + below) / height
        grid = figure.add_gridspec(
            2 * blocks, columns, height_ratios=[1.15, 1.0] * blocks, left=left, right=right, top=top, bottom=bottom,
            wspace=0.12, hspace=0.1,
        )  # fmt: skip
        for i, (record, model) in enumerate(panels):
            row, column = 2 * (i // columns), i % columns
            axis: Any = figure.add_subplot(grid[row, column], projection="3d")
            _surface(axis, record, model, norm)
            _contours(figure.add_subplot(grid[row + 1, column]), record, model, norm, first=column == 0)
        bar = figure.add_axes((right + 0.12 / width, bottom, 0.1 / width, (top - bottom) * 0.45))
        figure.colorbar(ScalarMappable(norm, style.MAP), cax=bar, label="cross-entropy (nats)")
        bar.grid(visible=False)
        figure.text(0.01, 0.06 / height, "\n".join(told), fontsize=style.SMALL, color=style.GREY, va="bottom")
    return figure


def _surface(axis: Any, record: LossSurface, model: ModelSurface, norm: Normalize) -> None:
    d = np.asarray(record.distances) / record.eps
    along, across = np.meshgrid(d, d, indexing="ij")
    axis.plot_surface(
        along, across, np.asarray(model.loss), cmap=style.MAP, norm=norm, rcount=len(d), ccount=len(d), linewidth=0,
        antialiased=False, rasterized=True,
    )  # fmt: skip
    axis.set_zlim(norm.vmin, norm.vmax)
    axis.view_init(elev=24, azim=-128)
    axis.set_box_aspect((1, 1, 0.8), zoom=1.1)
    ticks = (d[0], 0.0, d[-1])
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.tick_params(labelsize=6, pad=-3)
    axis.set_xlabel("d1", labelpad=-9, fontsize=7)
    axis.set_ylabel("d2", labelpad=-9, fontsize=7)
    ends = "" if model.quartiles is None else f" ({model.quartiles[0]:.2f}\u2013{model.quartiles[1]:.2f})"
    middle = {"transform": axis.transAxes, "ha": "center", "va": "bottom"}
    axis.text2D(0.5, 1.1, style.shorten(model.subject.name, 24), fontsize=8.5, fontweight="bold", **middle)
    axis.text2D(0.5, 1.0, f"roughness {model.median_roughness:.2f}{ends}", fontsize=7, **middle)


def _contours(axis: Any, record: LossSurface, model: ModelSurface, norm: Normalize, *, first: bool) -> None:
    d = np.asarray(record.distances) / record.eps
    loss = np.asarray(model.loss).T  # contours want a row of constant d2
    axis.pcolormesh(d, d, loss, cmap=style.MAP, norm=norm, shading="gouraud", rasterized=True)
    if loss.max() > loss.min():
        axis.contour(d, d, loss, levels=6, colors="white", linewidths=0.6, alpha=0.8)
    axis.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=4)
    if d[-1] >= 1.0:
        axis.plot(1, 0, "X", color="white", markeredgecolor="black", markersize=5, clip_on=False)
    axis.set_aspect("equal")
    axis.grid(visible=False)
    ticks = (d[0], 0.0, d[-1])
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks] if first else [])
    axis.set_xlabel("d1 / eps")
    if first:
        axis.set_ylabel("d2 / eps")


def _small_print(records: Sequence[LossSurface]) -> list[str]:
    record = records[0]
    several = record.n > 1
    images = f"the mean surface of {record.n} test images" if several else "the surface of one test image"
    box = "clipped to [0, 1]" if record.clip else "not clipped to [0, 1]"
    median = "median over the images (quartiles) of the" if several else "the"
    return [
        f"Along d1 the sign of the gradient, along d2 random signs orthogonal to it; Linf eps {eps_text(record.eps)}; "
        f"{images}, {box}. Dot: the image, cross: FGSM. Lines: six levels of each panel's own.",
        f"Roughness: {median} RMS deviation of the margin (largest other logit minus the label's) from its tangent "
        f"plane within {eps_text(record.within)}, over its RMS change. Smooth does not mean robust.",
    ]
