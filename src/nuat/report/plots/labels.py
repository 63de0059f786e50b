"""Names beside points that do not lie on each other, on other points, or outside the axes."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

_DIRECTIONS = 16
_DISTANCES = (7.0, 12.0, 19.0, 27.0, 36.0)
"""points"""


Points = Sequence[tuple[float, float]]


def place(
    axis: Axes, points: Points, names: Sequence[str], colours: Sequence[str], obstacles: Sequence[Points] = ()
) -> None:
    """Write each name beside its point (in data coordinates), with a thin line where it stands further off.

    ``obstacles`` are lines, of upright and level pieces, that names keep off too.

    Call it when the figure's size, its layout and the axes' limits are final. Each name takes, from near to far, the
    first place that is free, else the one that covers least.
    """
    figure: Any = axis.figure
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    scale = figure.dpi / 72.0
    inside = axis.get_window_extent(renderer)
    centres = [tuple(axis.transData.transform(point)) for point in points]
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in centres]
    taken += [box for line in obstacles for box in _boxes(axis, line, scale)]
    for i, name in enumerate(names):
        text = axis.annotate(
            name, points[i], xytext=(0, 0), textcoords="offset points", fontsize=6.5, va="center", ha="center"
        )
        size = text.get_window_extent(renderer)
        box, offset, far = _best(centres[i], size.width, size.height, scale, taken, inside)
        taken.append(box)
        text.set_position(offset)
        text.set_color(colours[i])
        if far:
            line = {"arrowstyle": "-", "color": colours[i], "linewidth": 0.5, "alpha": 0.7, "shrinkB": 2, "shrinkA": 4}
            axis.annotate("", points[i], xytext=offset, textcoords="offset points", arrowprops=line)


def _boxes(axis: Axes, line: Points, scale: float) -> list[Bbox]:
    """Return a box [pixels] around each piece of a line in data coordinates."""
    corners = [axis.transData.transform(point) for point in line]
    return [
        Bbox.from_extents(
            min(a[0], b[0]) - scale, min(a[1], b[1]) - scale, max(a[0], b[0]) + scale, max(a[1], b[1]) + scale
        )
        for a, b in itertools.pairwise(corners)
    ]


def _best(
    centre: tuple[float, ...], width: float, height: float, scale: float, taken: Sequence[Bbox], inside: Bbox
) -> tuple[Bbox, tuple[float, float], bool]:
    """Return the box [pixels] of a name, its centre's offset [points] from the point, and whether it stands far off."""
    best: tuple[float, Bbox, tuple[float, float], bool] | None = None
    for distance in _DISTANCES:
        for turn in range(_DIRECTIONS):
            angle = 2 * math.pi * turn / _DIRECTIONS
            # the box touches a circle around the point, whatever its width
            dx = math.cos(angle) * (distance * scale + width / 2)
            dy = math.sin(angle) * (distance * scale + height / 2)
            box = Bbox.from_bounds(centre[0] + dx - width / 2, centre[1] + dy - height / 2, width, height)
            covered = sum(_overlap(box, other) for other in taken) + width * height - _overlap(box, inside)
            if best is None or covered < best[0] - 1e-9:
                best = (covered, box, (dx / scale, dy / scale), distance > _DISTANCES[1])
        if best is not None and best[0] < 0.5:
            break
    assert best is not None
    return best[1], best[2], best[3]


def _overlap(a: Bbox, b: Bbox) -> float:
    width = float(min(a.x1, b.x1) - max(a.x0, b.x0))
    height = float(min(a.y1, b.y1) - max(a.y0, b.y0))
    return max(0.0, width) * max(0.0, height)
