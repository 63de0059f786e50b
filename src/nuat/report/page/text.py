"""Write the tables as Markdown and CSV, with the same cells as on the page."""

import csv
import io
from collections.abc import Sequence

from nuat.report.escaping import csv_cell
from nuat.report.escaping import escape_markdown as plain
from nuat.report.page.table import Cell, Column, Table, TableRow, Value


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables in Markdown, one under another."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    heads = [plain(" ".join(filter(None, (_head(c), _unit(c))))) for c in table.columns]
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [_pipes(heads), _pipes(rules)]
    lines += [_pipes([_both(cell) for cell in row.cells]) for row in table.shown]
    said = [f"- {plain(label)}: {plain(remark)}" for label, remark in table.told]
    said += [f"- {plain(label)} differs from its recipe in {plain(text)}" for label, text in table.changes]
    parts = [
        f"## {plain(table.heading)}",
        "\n".join(lines),
        *(plain(note) for note in table.notes),
    ]
    return "\n\n".join([*parts, *(["\n".join(said)] if said else [])]) + "\n"


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV: a line a method, one number a cell, empty if nothing was measured.

    The heads of the columns name the units. The first column tells the tables apart. Where methods are side by side, a
    line is a class or a corruption of one of them.
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
            if table.name in ("overview", "corruptions"):  # of several balls
                line |= {"norm": None, "eps": None}
            models = list(dict.fromkeys(column.model for column in table.columns if column.model))
            lines += [{**line, **_cells(table, row, model)} for model in models or [""]]
    names += dict.fromkeys(name for line in lines for name in line if name not in names)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    writer.writerows([csv_cell(line.get(name)) for name in names] for line in lines)
    return out.getvalue()


def _cells(table: Table, row: TableRow, model: str) -> dict[str, Value]:
    """Return the cells of a line by the names of their columns: those of one model, and those of all."""
    found: dict[str, Value] = {"method": model} if model else {}
    for column, cell in zip(table.columns, row.cells, strict=True):
        if column.name and column.model in ("", model):
            stem = column.name.partition(" [")[0]
            found |= {column.name: cell.value, **{f"{stem} {part}": cell.parts.get(part) for part in column.parts}}
            if model:
                found["worst"] = int(cell.marked or bool(found.get("worst")))
    return found


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    """Return a name that no other column of the table has."""
    if column.sub == "paper":
        return f"paper {column.head}"
    return column.head if column.sub in ("", "ours") else f"{column.head}, {column.sub}"


def _unit(column: Column) -> str:
    return f"({column.note})" if column.note else ""


def _both(cell: Cell) -> str:
    text = plain(cell.text)
    return (f"**{text}**" if cell.marked else text) + (f" ({plain(cell.note)})" if cell.note else "")
