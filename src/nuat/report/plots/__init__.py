"""Figures from the records of analyses alone: no model, no images, no GPU. One file a figure."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from nuat.analysis.record import Record
from nuat.errors import InputError
from nuat.report.plots import (
    confusion,
    cost,
    eps_curve,
    lambda_sweep,
    loss_surface,
    nuclear_profile,
    steps_curve,
    training,
)

DRAW: dict[str, Callable[[Sequence[Any]], Figure]] = {
    "loss-surface": loss_surface.draw,
    "confusion": confusion.draw,
    "nuclear-profile": nuclear_profile.draw,
    "cost": cost.draw,
    "lambda-sweep": lambda_sweep.draw,
    "eps-curve": eps_curve.draw,
    "steps-curve": steps_curve.draw,
    "training": training.draw,
}
"""What draws each kind of record."""


def draw(records: Sequence[Record]) -> Figure:
    """Draw ``records``, all of one kind, as one figure.

    Raises:
        InputError: no record, records of several kinds, or records that cannot share a figure.
    """
    kinds = sorted({record.kind for record in records})
    if len(kinds) != 1:
        raise InputError(f"a figure is of records of one kind; these are of {', '.join(kinds) or 'none'}.")
    return DRAW[kinds[0]](records)
