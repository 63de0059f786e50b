"""Numbers of the paper as data, for comparison: ``numbers.csv`` has one per line, with its place in the paper.

They are kept as printed. Tables 1a and 2 report the same ResNet-18 models and differ in one number: AutoAttack v1 on
FBF is 43.12 in one and 42.37 in the other.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources

from nuat.errors import InputError, did_you_mean

TABLES = ("1a", "1b", "2-cifar10", "2-imagenet100", "2-mnist")
"""Names of the tables; Table 2 is one table for each of its data sets."""


@dataclass(frozen=True, kw_only=True)
class PaperNumber:
    """One number of the paper."""

    table: str
    """One of ``TABLES``, or section-5.1, section-6, section-6.1 or section-6.2 for a number in the text."""
    row: int
    """Row of the table, from 1."""
    method: str
    """As printed, without "(Ours)"."""
    dataset: str
    """cifar10, imagenet100, mnist or imagenet."""
    network: str
    """As in ``ModelConfig.name``."""
    eps: float | None
    """Radius of the Linf ball. None: the paper does not give it."""
    recipe: str
    """Our recipe for the row. Empty: there is none."""
    quantity: str
    """Attack as ``nuat evaluate`` calls it, for the accuracy under it in %; or "# AT steps", "epochs", "two-step
    epochs" (the subscript in Table 1b), "entropy", "cost over NuAT2-WA" (a multiple); or an attack followed by
    "deviation", in points over seeds."""
    value: float
    """The number."""
    place: str
    """Where in the paper it is printed."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of a table."""

    method: str
    """As printed, without "(Ours)"."""
    recipe: str
    """Our recipe for it. Empty: there is none."""
    values: Mapping[str, float]
    """Quantity to value, in the paper's order of columns."""


@cache
def numbers() -> tuple[PaperNumber, ...]:
    """Return every number of Tables 1a, 1b and 2 and those in the text of sections 5.1 to 6.2, by section and row."""
    text = (resources.files(__name__) / "numbers.csv").read_text(encoding="utf-8")
    return tuple(_number(line) for line in csv.DictReader(text.splitlines()))


def _number(line: dict[str, str]) -> PaperNumber:
    return PaperNumber(
        table=line["table"],
        row=int(line["row"]),
        method=line["method"],
        dataset=line["dataset"],
        network=line["network"],
        eps=float(Fraction(line["eps"])) if line["eps"] else None,
        recipe=line["recipe"],
        quantity=line["quantity"],
        value=float(line["value"]),
        place=line["place"],
    )


def of_table(name: str) -> tuple[PaperNumber, ...]:
    """Return the numbers of one of ``TABLES``, in the paper's order.

    Raises:
        InputError: there is no such table.
    """
    if name not in TABLES:
        raise InputError(f"unknown table {name!r}.{did_you_mean(name, TABLES)} Tables: {', '.join(TABLES)}.")
    return tuple(number for number in numbers() if number.table == name)


def table(name: str) -> tuple[PaperRow, ...]:
    """Return the rows of one of ``TABLES``, in the paper's order.

    Raises:
        InputError: there is no such table.
    """
    rows: dict[int, list[PaperNumber]] = {}
    for number in of_table(name):
        rows.setdefault(number.row, []).append(number)
    return tuple(
        PaperRow(method=row[0].method, recipe=row[0].recipe, values={number.quantity: number.value for number in row})
        for row in rows.values()
    )
