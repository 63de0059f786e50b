"""Write the tables as Markdown and CSV, with the same cells as on the page."""

import csv
import io
from collections.abc import Sequence

from nuat.report.escaping import csv_cell
from nuat.report.escaping import escape_markdown as plain
from nuat.report.page.table import Cell, Column, Table


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables in Markdown, one under another."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    heads = [plain(" ".join(filter(None, (_head(c), _unit(c))))) for c in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [_pipes(heads), _pipes(rules)]
    for row in table.rows:
        cells = [_both(cell, "({})") for cell in row.cells]
        lines.append(_pipes([plain(cell) for cell in cells]))
    said = [f"- {plain(row.method.label)}: {plain(remark)}" for row in table.rows for remark in row.remarks]
    said += [f"- {plain(label)} differs from its recipe in {plain(text)}" for label, text in table.changes]
    parts = [
        f"## {plain(table.heading)}",
        "\n".join(lines),
        *(plain(note) for note in table.notes),
    ]
    return "\n\n".join([*parts, *(["\n".join(said)] if said else [])]) + "\n"


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV: a line a method, one number a cell, empty if nothing was measured.

    The heads of the columns name the units. The first column tells the overview from the results of each setting.
    """
    names = ["table", "campaign", "dataset", "network", "norm", "eps", "remarks"]
    lines: list[dict[str, object]] = []
    for table in tables:
        setting = table.group.setting
        for row in table.rows:
            line: dict[str, object] = {
                "table": table.name or "results",
                "campaign": setting.campaign or "",
                "dataset": setting.dataset,
                "network": setting.network,
                "norm": setting.norm if setting.also is None else f"{setting.norm} and {setting.also}",
                "eps": setting.eps,
                "remarks": "; ".join(row.remarks),
            }
            if table.name == "overview":  # of several balls
                line |= {"norm": None, "eps": None}
            for column, cell in zip(table.columns, row.cells, strict=True):
                line[column.name] = cell.value
                stem = column.name.partition(" [")[0]
                for part in column.parts:
                    line[f"{stem} {part}"] = cell.parts.get(part)
            names += [name for name in line if name not in names]
            lines.append(line)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    writer.writerows([csv_cell(line.get(name)) for name in names] for line in lines)
    return out.getvalue()


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    """Return a name that no other column of the table has."""
    if column.sub == "paper":
        return f"paper {column.head}"
    return column.head if column.sub in ("", "ours") else f"{column.head}, {column.sub}"


def _unit(column: Column) -> str:
    return f"({column.note})" if column.note else ""


def _both(cell: Cell, frame: str) -> str:
    return cell.text + (f" {frame.format(cell.note)}" if cell.note else "")
