r"""Write the tables for a LaTeX document with \usepackage{booktabs,graphicx}."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from nuat.report.escaping import escape_latex
from nuat.report.page.table import Cell, Column, Table

_BOLD = "Bold: the best in its column, of the rows with as many images and the same attacks and settings."


def latex(tables: Sequence[Table]) -> str:
    """Return the tables, each with a caption, a label, and its notes below; the best accuracies are bold.

    A table that is wider than the text is made smaller.
    """
    return "\n".join(_table(table, label) for table, label in zip(tables, _labels(tables), strict=True))


def _table(table: Table, label: str) -> str:
    best = [_best([row.cells[place] for row in table.shown]) for place in range(len(table.columns))]
    body = [
        " & ".join(_cell(cell, bold=cell.marked or i in best[place]) for place, cell in enumerate(row.cells)) + r" \\"
        for i, row in enumerate(table.shown)
    ]
    notes = [*table.notes, *([_BOLD] if any(best) else [])]
    notes += [f"{label}: {remark}." for label, remark in table.told]
    notes += [f"{name} differs from its recipe in {text}." for name, text in table.changes]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.heading)}{'' if table.name else ': accuracy under attack'}.}}",
        rf"\label{{{label}}}",
        r"\sbox0{%",
        rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in table.columns)}}}",
        r"\toprule",
        *_heads(table),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *(f"{escape_latex(note)}\\par" for note in notes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _heads(table: Table) -> Iterator[str]:
    """Yield the lines of the head: names, rules under shared names, and the second line if there is one."""
    first, rules, place = [], [], 1
    for head, found in groupby(table.columns, key=lambda column: column.head):
        count = len(list(found))
        if count > 1:
            first.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(head)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + count - 1}}}")
        else:
            first.append(escape_latex(head))
        place += count
    yield " & ".join(first) + r" \\"
    yield from rules
    second = [_below(column) for column in table.columns]
    if any(second):
        yield " & ".join(second) + r" \\"


def _below(column: Column) -> str:
    r"""Return what stands under a name; several facts one under another, since side by side they make a column wide."""
    facts = [escape_latex(fact) for fact in (column.sub, *column.note.split(", ")) if fact]
    lines = r"\\".join(facts)
    return rf"\shortstack[{'r' if column.numeric else 'l'}]{{{lines}}}" if len(facts) > 1 else lines


def _cell(cell: Cell, *, bold: bool) -> str:
    text, note = (escape_latex(part) for part in cell.printed or (cell.text, cell.note))
    return (rf"\textbf{{{text}}}" if bold else text) + (rf" {{\scriptsize ({note})}}" if note else "")


def _best(cells: Sequence[Cell]) -> set[int]:
    """Return the places of the best of a column's cells; of equal printed numbers, all. A lone cell has no rival."""
    found: set[int] = set()
    shown = [float(cell.printed[0]) if cell.printed else 0.0 for cell in cells]
    for rivals in {cell.comparable for cell in cells if cell.comparable is not None}:
        places = [i for i, cell in enumerate(cells) if cell.comparable == rivals]
        if len(places) > 1:
            found |= {i for i in places if shown[i] == max(shown[j] for j in places)}
    return found


def _labels(tables: Sequence[Table]) -> list[str]:
    r"""Return a different name for each table, for \ref."""
    stems = ["tab:" + re.sub(r"[^a-z0-9]+", "-", table.heading.lower()).strip("-") for table in tables]
    return [f"{stem}-{stems[:i].count(stem) + 1}" if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)]
