"""Table of an evaluation: on a terminal, as text, and as HTML in a notebook."""

import html
import io
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nuat.attacks.catalogue import QUICK, WORST_CASE
from nuat.core.eps import threat_text
from nuat.errors import printable
from nuat.evaluation.calibration import BINS
from nuat.evaluation.per_class import under, worst_class_text

if TYPE_CHECKING:
    from nuat.evaluation.results import AttackResult, Evaluation

Row: TypeAlias = tuple[str, ...]
"""Cells of a row."""
_COLUMNS = ("attack", "accuracy %", "95 % interval", "seconds", "forward", "backward")


def evaluation_table(evaluation: "Evaluation") -> Table:
    """Return an evaluation as a table for the terminal: one row per attack, the worst case last."""
    table = Table(title=Text(_title(evaluation)), title_justify="left")
    for name in _COLUMNS:
        first = name == _COLUMNS[0]
        table.add_column(name, justify="left" if first else "right", overflow="fold" if first else "ellipsis")
    *rows, worst = _rows(evaluation)
    for row in rows:
        table.add_row(*map(Text, row))
    table.add_section()
    table.add_row(*map(Text, worst))
    if notes := _notes(evaluation):
        table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return table


def as_text(evaluation: "Evaluation") -> str:
    """Return the table as plain text, as wide as the terminal."""
    return text_of(evaluation_table(evaluation))


def as_html(evaluation: "Evaluation") -> str:
    """Return the table as HTML, every text of it escaped."""
    return html_of(_title(evaluation), _COLUMNS, [_rows(evaluation)], _notes(evaluation))


def text_of(table: Table) -> str:
    """Return a table as plain text, as wide as the terminal."""
    file = io.StringIO()
    width = shutil.get_terminal_size().columns
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(table)
    return file.getvalue().rstrip("\n")


def html_of(title: str, columns: Row, blocks: Sequence[Sequence[Row]], notes: Sequence[str]) -> str:
    """Return a table as HTML, every text of it escaped; each block of rows is a body of its own."""

    def line(cells: Row, kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    bodies = "".join(f"<tbody>{''.join(line(row, 'td') for row in block)}</tbody>" for block in blocks)
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    head = f"<caption>{html.escape(title)}</caption><thead>{line(columns, 'th')}</thead>"
    return f"<table>{head}{bodies}</table>{below}"


def _title(evaluation: "Evaluation") -> str:
    ball = threat_text(evaluation.norm, evaluation.eps, evaluation.also)
    told = f"{evaluation.n} test images, {ball}, seed {evaluation.seed}, {evaluation.hardware}"
    return printable(told)


def _rows(evaluation: "Evaluation") -> list[Row]:
    """Return the cells of each attack, and of the worst case."""
    rows = []
    for result in evaluation.results:
        if result.shared_with is None:
            seconds = "" if result.seconds is None else f"{result.seconds:.1f}"
            cost = (seconds, *("" if count is None else f"{count:,}" for count in (result.forwards, result.backwards)))
        else:
            cost = (f"in {result.shared_with}", "", "")
        name = f"{result.name} *" if _takes_survivors(result) else result.name
        rows.append((name, f"{100 * result.accuracy:.2f}", interval_cell(result.interval), *cost))
    for norm, (accuracy, interval) in evaluation.by_norm.items():
        rows.append((f"worst case, {norm}", f"{100 * accuracy:.2f}", interval_cell(interval), *[""] * 3))
    name = "worst case" if evaluation.also is None else "worst case over norms"
    rows.append((name, f"{100 * evaluation.accuracy('worst-case'):.2f}", interval_cell(evaluation.interval), *[""] * 3))
    return [tuple(map(printable, row)) for row in rows]


def _notes(evaluation: "Evaluation") -> list[str]:
    notes = []
    how = [f" in {evaluation.search_precision}"] if evaluation.search_precision != "fp32" else []
    how += [" on a compiled copy"] if evaluation.compiled else []
    if how:
        notes.append(f"attacks searched{''.join(how)}; every success was confirmed in fp32")
    if any(map(_takes_survivors, evaluation.results)):
        notes.append("* on what the attacks above it left standing: its accuracy is that of all of them together")
    if any(result.settings.get("version") == "fast" for result in evaluation.results):
        notes.append("autoattack-fast stops early: an upper bound of AutoAttack's accuracy, not AutoAttack's")
    if any(result.name == QUICK for result in evaluation.results):
        notes.append(f"{QUICK} is CR and then Square: an upper bound of AutoAttack's accuracy, not AutoAttack's")
    if evaluation.black_box:
        notes.append(evaluation.black_box)
    notes += filter(None, (worst_class_text(evaluation), calibration_text(evaluation)))
    return notes


def calibration_text(evaluation: "Evaluation") -> str:
    """Return one line on how far the probabilities are from the accuracy; empty: they were not kept."""
    there = [result.name for result in evaluation.results]
    names = [name for name in ("clean", WORST_CASE) if name != "clean" or name in there]
    names = names[:1] if there == ["clean"] else names
    told = [
        f"{100 * error:.1f} % {under(evaluation, name)}"
        for name in names
        if (error := evaluation.calibration_error(name)) is not None
    ]
    cooled = "" if evaluation.temperature == 1.0 else f", at temperature {evaluation.temperature:.4g}"
    return f"calibration error ({BINS} bins): {', '.join(told)}{cooled}" if told else ""


def _takes_survivors(result: "AttackResult") -> bool:
    """Return whether an attack took what others left standing: they are in its accuracy, too."""
    return any(name != "clean" for name in result.settings.get("after", ()))


def interval_cell(interval: tuple[float, float]) -> str:
    """Return an interval within [0, 1] in %."""
    return f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"
