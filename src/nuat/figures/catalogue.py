"""Table of the figures. A new figure is one file and one row here; docs/extend/figure.md walks through one.

The picture of adversarial examples (``adversarial_examples``) has no row: it is drawn from a model, not from a record.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nuat.errors import InputError
from nuat.figures import (
    confusion,
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
        training_curves.FIGURE,
    )
}
"""Figures by name, in the order of the help."""


def read(path: Path) -> FigureRecord:
    """Return the record in a file that ``nuat analyse`` wrote.

    Raises:
        InputError: the file cannot be read, is not JSON, or does not hold such a record.
    """
    values = read_object(path)
    figure = FIGURES.get(str(values.get("kind")))
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
        return FIGURES[kinds[0]].draw(records)
