"""Every figure of the catalogue: its record, the same bytes again, text within its edges."""

import dataclasses

import pytest
from figures.figure_records import RECORDS
from matplotlib.legend import Legend
from matplotlib.text import Text

from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.catalogue import FIGURES, draw
from nuat.figures.loss_surface import LossSurface


def test_every_kind_has_a_record_and_a_figure() -> None:
    assert set(RECORDS) == set(FIGURES) == set(FIGURES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_small_and_the_same_bytes_again(kind: str) -> None:
    first, second = (style.to_bytes(draw([RECORDS[kind]]), "svg").decode() for _ in range(2))
    assert first == second
    assert len(first) < 200_000
    assert "<dc:date>" not in first
    assert "<text" in first
    assert "<one>" not in first  # names are escaped


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIGURES)
def test_no_text_leaves_the_figure(kind: str) -> None:
    record = RECORDS[kind]
    if isinstance(record, LossSurface):
        record = dataclasses.replace(record, models=record.models[:1])
    figure = draw([record])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    edge = figure.bbox
    shown = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts)]
    shown += [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    shown += [text for text in figure.get_children() if isinstance(text, Text)]
    for text in shown:
        box = text.get_window_extent(canvas.get_renderer())
        if text.get_text() and text.get_visible() and box.width:
            assert box.x0 >= -1, text
            assert box.x1 <= edge.width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= edge.height + 1, text


def test_a_report_knows_what_each_figure_shows() -> None:
    for name, figure in FIGURES.items():
        assert name == figure.record.kind
        assert figure.title
        assert figure.caption.endswith(".")
        assert figure.summary
        assert figure.options.__doc__


def test_records_of_two_kinds_share_no_figure() -> None:
    with pytest.raises(InputError, match="of cost, training"):
        draw([RECORDS["cost"], RECORDS["training"]])
    with pytest.raises(InputError, match="of none"):
        draw([])


@pytest.mark.parametrize("kind", ["cost", "lambda-sweep"])
def test_records_of_two_balls_share_no_figure(kind: str) -> None:
    with pytest.raises(InputError, match="cannot share a figure"):
        draw([RECORDS[kind], dataclasses.replace(RECORDS[kind], eps=0.1)])


def test_records_of_one_kind_are_drawn_together() -> None:
    figure = draw([RECORDS["eps-curve"], RECORDS["eps-curve"]])
    assert (
        len([line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]) == 4
    )
