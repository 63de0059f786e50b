"""The tables as Markdown, CSV and LaTeX: the same cells as the page's."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import groupby

from nuat.report.page.table import DASH, Cell, Column, Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line's end it would begin an argument
    "±": r"$\pm$",
    DASH: "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables in Markdown, one under another."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    heads = [
        _plain(" ".join(filter(None, (c.sub if c.sub == "paper" else "", c.head, _unit(c))))) for c in table.columns
    ]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [_pipes(heads), _pipes(rules)]
    for row in table.rows:
        cells = [_both(cell, "({})") for cell in row.cells]
        lines.append(_pipes([_plain(cell) for cell in cells]))
    said = [f"- {_plain(row.method.label)}: {_plain(remark)}" for row in table.rows for remark in row.remarks]
    said += [f"- {_plain(label)} differs from its recipe in {_plain(text)}" for label, text in table.changes]
    parts = [f"## {_plain(heading(table))}", "\n".join(lines), *(_plain(note) for note in table.notes)]
    return "\n\n".join([*parts, *(["\n".join(said)] if said else [])]) + "\n"


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV: a line a method, one number a cell, empty where nothing was measured.

    Accuracies and their intervals are in %, seconds and images are whole numbers or fractions of no other unit.
    """
    names = ["campaign", "dataset", "network", "norm", "eps", "remarks"]
    lines: list[dict[str, object]] = []
    for table in tables:
        setting = table.group.setting
        for row in table.rows:
            line: dict[str, object] = {
                "campaign": setting.campaign or "",
                "dataset": setting.dataset,
                "network": setting.network,
                "norm": setting.norm,
                "eps": "" if setting.eps is None else setting.eps,
                "remarks": "; ".join(row.remarks),
            }
            for column, cell in zip(table.columns, row.cells, strict=True):
                line[column.name] = _number(cell.value)
                stem = column.name.partition(" [")[0]
                for part in column.parts:
                    line[f"{stem} {part}"] = _number(cell.parts.get(part))
            names += [name for name in line if name not in names]
            lines.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def latex(tables: Sequence[Table]) -> str:
    r"""Return the tables for a LaTeX document with \usepackage{booktabs}."""
    return "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    columns = table.columns
    first, second, rules = [], [], []
    place = 1
    for head, found in groupby(columns, key=lambda column: column.head):
        members = list(found)
        if len(members) > 1:
            first.append(rf"\multicolumn{{{len(members)}}}{{c}}{{{escape_latex(head)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + len(members) - 1}}}")
        else:
            first.append(escape_latex(head))
        place += len(members)
    for column in columns:
        second.append(escape_latex(", ".join(filter(None, (column.sub, column.note)))))
    body = [" & ".join(escape_latex(_both(cell, "({})")) for cell in row.cells) + r" \\" for row in table.rows]
    remarks = [f"{row.method.label}: {remark}." for row in table.rows for remark in row.remarks]
    remarks += [f"{label} differs from its recipe in {text}." for label, text in table.changes]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(' '.join([heading(table) + '.', *table.notes, *remarks]))}}}",
        rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}",
        r"\toprule",
        " & ".join(first) + r" \\",
        *rules,
        *([" & ".join(second) + r" \\"] if any(second) else []),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~$&])", r"\\\1", " ".join(text.split()))


def heading(table: Table) -> str:
    """Return the title of a table."""
    setting = table.group.setting
    return setting.title + ("" if setting.campaign is None else f" (campaign {setting.campaign})")


def _plain(text: str) -> str:
    return escape_markdown(text)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _unit(column: Column) -> str:
    return f"({column.note})" if column.note else ""


def _both(cell: Cell, frame: str) -> str:
    return cell.text + (f" {frame.format(cell.note)}" if cell.note else "")


def _number(value: object) -> object:
    # 100 * 842 / 1000 is 84.2, and not 84.19999999999999
    if isinstance(value, float):
        return round(value, 9)
    return "" if value is None else value
