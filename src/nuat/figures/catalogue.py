"""Table of the figures. A new figure is one file and one row here; docs/extend/figure.md walks through one.

The picture of adversarial examples (``adversarial_examples``) has no row: it is drawn from a model, not from a record.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nuat import own_code
from nuat.errors import InputError, did_you_mean
from nuat.figures import (
    calibration,
    class_accuracy,
    confusion,
    corruption_curves,
    cost,
    eps_curve,
    lambda_sweep,
    loss_surface,
    nuclear_profile,
    steps_curve,
    style,
    training_curves,
)
from nuat.figures.figure_record import FigureRecord
from nuat.figures.kind import FigureKind
from nuat.records.json_values import read_object

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, FigureKind] = {
    figure.name: figure
    for figure in (
        loss_surface.FIGURE,
        confusion.FIGURE,
        nuclear_profile.FIGURE,
        cost.FIGURE,
        lambda_sweep.FIGURE,
        eps_curve.FIGURE,
        steps_curve.FIGURE,
        class_accuracy.FIGURE,
        corruption_curves.FIGURE,
        calibration.FIGURE,
        training_curves.FIGURE,
    )
}
"""Figures by name, in the order of the help."""
_own: dict[type[FigureRecord], FigureKind] = {}
"""Figures of the user's own that have been asked for, by the class of their records."""


def find(name: str) -> FigureKind:
    """Return the figure of a name: one of ``FIGURES``, or the user's own, by a name of ``nuat.own_code``.

    Raises:
        InputError: there is no such figure.
    """
    if name in FIGURES:
        return FIGURES[name]
    if not (own_code.is_named(name) or own_code.is_pinned(name)):
        hint = did_you_mean(name, [*FIGURES, "redraw"])
        raise InputError(
            f"unknown figure {name!r}.{hint} 'nuat analyse --help' lists them; FILE.py:FIGURE is one of your own."
        )
    figure = own_code.find(name)
    if not isinstance(figure, FigureKind):
        raise InputError(f"{name}: is not a ModelFigure or RunFigure of nuat.figures.kind.")
    if figure.name in FIGURES:
        raise InputError(f"{name}: nuat has a figure {figure.name!r}; give the record another kind.")
    _own[figure.record] = figure
    return figure


def figure_of(record: FigureRecord) -> FigureKind:
    """Return the figure that a record is of."""
    return _own[type(record)] if type(record) in _own else FIGURES[record.kind]


def read(path: Path) -> FigureRecord:
    """Return the record in a file that ``nuat analyse`` wrote.

    Raises:
        InputError: the file cannot be read, is not JSON, or does not hold such a record; or its figure is code that
            may not run.
    """
    values = read_object(path)
    own = str(values.get("figure", ""))
    figure = find(own) if own_code.is_pinned(own) else FIGURES.get(str(values.get("kind")))
    if figure is None:
        raise InputError(f"{path}: not a record of 'nuat analyse' (kinds: {', '.join(FIGURES)}).")
    try:
        return figure.record.from_json(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def draw(records: Sequence[FigureRecord]) -> "Figure":
    """Return ``records``, all of one kind, drawn as one figure.

    Raises:
        InputError: no record, records of several kinds, or records that cannot share a figure.
    """
    kinds = sorted({record.kind for record in records})
    if len(kinds) != 1:
        raise InputError(f"a figure needs records of one kind; these are of {', '.join(kinds) or 'none'}.")
    with style.applied():
        return figure_of(records[0]).draw(records)
