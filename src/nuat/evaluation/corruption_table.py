"""Table of accuracies on corrupted images: on a terminal, as text, and as HTML in a notebook."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nuat.data.corruptions import CATEGORIES, CORRUPTIONS, SEVERITIES
from nuat.errors import printable
from nuat.evaluation.result_table import Row, html_of, interval_cell, text_of

if TYPE_CHECKING:
    from nuat.evaluation.corruption_results import CorruptionResults

_COLUMNS = ("corruption", *map(str, SEVERITIES), "mean", "95 % interval")


def corruption_table(found: "CorruptionResults") -> Table:
    """Return the results as a table for the terminal: accuracies in % at each severity, by category."""
    table = Table(title=Text(_title(found)), title_justify="left")
    for name in _COLUMNS:
        first = name == _COLUMNS[0]
        table.add_column(name, justify="left" if first else "right", overflow="fold" if first else "ellipsis")
    for block in _blocks(found):
        for row in block:
            table.add_row(*map(Text, row))
        table.add_section()
    table.caption, table.caption_justify = Text("\n".join(_notes(found))), "left"
    return table


def as_text(found: "CorruptionResults") -> str:
    """Return the table as plain text, as wide as the terminal."""
    return text_of(corruption_table(found))


def as_html(found: "CorruptionResults") -> str:
    """Return the table as HTML, every text of it escaped."""
    return html_of(_title(found), _COLUMNS, _blocks(found), _notes(found))


def _title(found: "CorruptionResults") -> str:
    seed = "" if found.seed is None else f"seed {found.seed}, "
    return printable(f"{found.n} test images, accuracy in % at severities 1 to 5, {seed}{found.hardware}")


def _blocks(found: "CorruptionResults") -> list[list[Row]]:
    """Return the cells of each row: no corruption, the corruptions of each category with their mean, the mean."""
    blocks = [[_row(found, "clean", "no corruption")]]
    for category, names in found.categories.items():
        missing = "" if len(names) == len(CATEGORIES[category]) else f" ({len(names)} of {len(CATEGORIES[category])})"
        blocks.append([*(_row(found, name, name) for name in names), _row(found, category, f"{category}{missing}")])
    return [*blocks, [_row(found, "mean", found.mean_name)]]


def _row(found: "CorruptionResults", name: str, label: str) -> Row:
    at = ["" if name == "clean" else f"{100 * found.accuracy(name, severity):.1f}" for severity in SEVERITIES]
    return (label, *at, f"{100 * found.accuracy(name):.2f}", interval_cell(found.interval(name)))


def _notes(found: "CorruptionResults") -> list[str]:
    notes = [printable(f"corrupted images: {found.source}"), f"{found.forwards:,} images forward"]
    if found.missing:
        notes.insert(
            0,
            f"not there: {', '.join(found.missing)} ({len(found.missing)} of {len(CORRUPTIONS)}); the means are over "
            "the others alone and compare with no mean of all",
        )
    return notes
