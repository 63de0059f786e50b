"""Names of points do not overlap."""

import dataclasses

import pytest
from figures.figure_records import RECORDS, point
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nuat.figures.catalogue import draw
from nuat.figures.point_names import _Box, _to_line


@pytest.mark.slow
def test_names_beside_points_do_not_overlap() -> None:
    crowd = tuple(point(f"method {i}", 0.5 + 0.01 * (i % 3), 10.0 + 0.3 * i, 10**6 + 10**5 * i) for i in range(12))
    figure = draw([dataclasses.replace(RECORDS["cost"], points=crowd)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in figure.axes:
        names = [text for text in axis.texts if text.get_text()]
        assert len(names) == 12
        boxes = [_Box(*name.get_window_extent(canvas.get_renderer()).extents) for name in names]
        assert all(a.overlap(b) < 1.0 for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.slow
def test_a_name_leads_to_its_own_point() -> None:
    # two points that touch; the name of the left one may not be reached through the right one
    pair = (point("left", 0.50, 10.0, 10**6), point("right", 0.52, 10.3, 10**6))
    far = (point("cheap", 0.9, 1.0, 10**5), point("dear", 0.1, 100.0, 10**7))
    figure = draw([dataclasses.replace(RECORDS["cost"], points=(*pair, *far))])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axis = figure.axes[0]
    left, right = (axis.transData.transform((x, 100 * y)) for x, y in ((10.0, 0.50), (10.3, 0.52)))
    boxes = {
        text.get_text(): _Box(*text.get_window_extent(canvas.get_renderer()).extents)
        for text in axis.texts
        if text.get_text()
    }
    assert _to_line(tuple(right), tuple(left), boxes["left"].nearest(tuple(left))) > 4
    assert _to_line(tuple(left), tuple(right), boxes["right"].nearest(tuple(right))) > 4
    lines = [text for text in axis.texts if not text.get_text()]
    assert len(lines) >= 2  # whose name is whose would not be clear without
