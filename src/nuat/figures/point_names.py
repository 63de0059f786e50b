"""Names next to the points of a figure: they cover neither each other nor points and lines, and show whose they are."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

_DIRECTIONS = 24
_DISTANCES = (6.0, 10.0, 16.0, 23.0, 31.0, 40.0)
"""Distances of a name from its point that are tried [points]."""
_ROUNDS = 3
"""Times that each name is placed anew among the others."""
_MARKER = 4.0
"""Half the side of the box that a point keeps free [points]."""

Spot = tuple[float, float]
Polyline = Sequence[Spot]
"""Corners of a line of vertical and horizontal pieces, in data coordinates."""


@dataclass(frozen=True)
class NamedPoint:
    """A point in data coordinates, with its name."""

    x: float
    y: float
    name: str
    colour: str


class _Box(NamedTuple):
    """A rectangle [pixels]."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: "_Box") -> float:
        """Return the area that two boxes share."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height if width > 0 and height > 0 else 0.0

    def nearest(self, spot: Spot) -> Spot:
        """Return the spot in the box that is nearest to another."""
        return min(max(spot[0], self.x0), self.x1), min(max(spot[1], self.y0), self.y1)

    def gap(self, spot: Spot) -> float:
        """Return the distance of a spot from the box."""
        return math.dist(spot, self.nearest(spot))


@dataclass(frozen=True)
class _Scene:
    """Everything that names keep off [pixels]."""

    centres: list[Spot]
    lines: list[_Box]
    inside: _Box
    """The axes."""
    scale: float
    """Pixels of a typographic point."""

    def cost(self, i: int, name: _Box, others: Sequence[_Box]) -> float:
        """Return how badly a place suits the name of point ``i``, next to the other names.

        Covered area [points^2] weighs most, then lines that run through something, then doubt about the owner, then
        distance [points].
        """
        side, centre = _MARKER * self.scale, self.centres[i]
        markers = [_Box(x - side, y - side, x + side, y + side) for x, y in self.centres]
        covered = sum(name.overlap(box) for box in (*markers, *self.lines, *others))
        outside = (name.x1 - name.x0) * (name.y1 - name.y0) - name.overlap(self.inside)
        end, own = name.nearest(centre), name.gap(centre)
        rest = [spot for spot in self.centres if math.dist(spot, centre) > side / 2]
        crossed = sum(_to_line(spot, centre, end) < side for spot in rest)
        crossed += sum(any(box.gap(spot) == 0 for spot in _along(centre, end)) for box in others)
        doubt = sum(max(0.0, own - name.gap(spot)) for spot in rest)
        return 10 * (covered + 4 * outside) / self.scale**2 + 60 * crossed + (3 * doubt + own) / self.scale

    def needs_line(self, i: int, name: _Box) -> bool:
        """Return whether it would not be clear that a name belongs to point ``i``."""
        own = name.gap(self.centres[i])
        near = [name.gap(spot) < own + _MARKER * self.scale for j, spot in enumerate(self.centres) if j != i]
        return own > 1.5 * _DISTANCES[0] * self.scale or any(near)


def place_names(axis: Axes, points: Sequence[NamedPoint], obstacles: Sequence[Polyline] = ()) -> None:
    """Write each name near its point, with a thin line where it would not be clear whose name it is.

    Call it when the size of the figure, its layout and the limits of the axes are final.

    Args:
        axis: axes that hold the points.
        points: points to name.
        obstacles: lines that names keep off as well.
    """
    figure: Any = axis.figure
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    scale = figure.dpi / 72.0
    scene = _Scene(
        centres=[_pixels(axis, (point.x, point.y)) for point in points],
        lines=[box for line in obstacles for box in _boxes(axis, line, scale)],
        inside=_Box(*map(float, axis.get_window_extent(renderer).extents)),
        scale=scale,
    )
    look: Any = {"textcoords": "offset points", "fontsize": 6.5, "va": "center", "ha": "center"}
    texts = [axis.annotate(p.name, (p.x, p.y), xytext=(0, 0), color=p.colour, **look) for p in points]
    tried = [
        _candidates(centre, text.get_window_extent(renderer).size, scale)
        for centre, text in zip(scene.centres, texts, strict=True)
    ]
    names: dict[int, _Box] = {}
    for _, i in itertools.product(range(_ROUNDS), range(len(points))):
        others = [box for j, box in names.items() if j != i]
        names[i] = min(tried[i], key=lambda box, i=i, others=others: scene.cost(i, box, others))  # type: ignore[misc]
    for i, (text, point) in enumerate(zip(texts, points, strict=True)):
        name, (x, y) = names[i], scene.centres[i]
        text.set_position((((name.x0 + name.x1) / 2 - x) / scale, ((name.y0 + name.y1) / 2 - y) / scale))
        if scene.needs_line(i, name):
            end = name.nearest((x, y))
            offset = (end[0] - x) / scale, (end[1] - y) / scale
            line = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (point.x, point.y), xytext=offset, textcoords="offset points", arrowprops=line)


def _candidates(centre: Spot, size: Any, scale: float) -> list[_Box]:
    found, (width, height) = [], map(float, size)
    for distance, turn in itertools.product(_DISTANCES, range(_DIRECTIONS)):
        angle = 2 * math.pi * turn / _DIRECTIONS
        # the box touches a circle around the point, whatever its width
        x = centre[0] + math.cos(angle) * (distance * scale + width / 2)
        y = centre[1] + math.sin(angle) * (distance * scale + height / 2)
        found.append(_Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return found


def _pixels(axis: Axes, spot: Spot) -> Spot:
    x, y = axis.transData.transform(spot)
    return float(x), float(y)


def _boxes(axis: Axes, line: Polyline, scale: float) -> list[_Box]:
    """Return a box around each piece of a line."""
    corners = [_pixels(axis, spot) for spot in line]
    return [
        _Box(min(a[0], b[0]) - scale, min(a[1], b[1]) - scale, max(a[0], b[0]) + scale, max(a[1], b[1]) + scale)
        for a, b in itertools.pairwise(corners)
    ]


def _along(start: Spot, end: Spot) -> list[Spot]:
    return [(start[0] + k / 8 * (end[0] - start[0]), start[1] + k / 8 * (end[1] - start[1])) for k in range(1, 8)]


def _to_line(spot: Spot, start: Spot, end: Spot) -> float:
    """Return the distance of a spot from the piece between ``start`` and ``end``."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    t = 0.0 if length == 0 else ((spot[0] - start[0]) * dx + (spot[1] - start[1]) * dy) / length
    t = min(max(t, 0.0), 1.0)
    return math.dist(spot, (start[0] + t * dx, start[1] + t * dy))
