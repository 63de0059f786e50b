"""Print the paper's tables with our recipes; torch is not needed."""

from collections.abc import Mapping

from rich.table import Table

from nuat import paper
from nuat.core.eps import eps_text

_STEPS, _SUBSCRIPT = "# AT steps", "two-step epochs"


def paper_table(name: str) -> Table:
    """Return a table of the paper with our recipe for each row; "-" is a number that the paper lacks.

    Raises:
        InputError: there is no such table.
    """
    rows, numbers = paper.table(name), paper.of_table(name)
    eps = numbers[0].eps
    where = f"{numbers[0].dataset}, {numbers[0].network}" + (f", Linf eps {eps_text(eps)}" if eps is not None else "")
    title = f"Table {name} of the paper: {where}; accuracy in %"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    table.add_column("recipe", no_wrap=True)
    heads = {number.quantity: number.place.rsplit(", ", 1)[1] for number in numbers}
    heads |= {_STEPS: _STEPS.removeprefix("# ")} if _STEPS in heads else {}
    quantities = [quantity for quantity in heads if quantity != _SUBSCRIPT]
    cells = [[_as_printed(row.values, quantity) for quantity in quantities] for row in rows]
    for quantity, column in zip(quantities, zip(*cells, strict=True), strict=True):
        # heads wrap at their spaces, numbers never
        width = max(len(word) for word in (*heads[quantity].split(), *column))
        table.add_column(heads[quantity], justify="right", width=width)
    for row, line in zip(rows, cells, strict=True):
        table.add_row(row.method, row.recipe or "-", *line)
    return table


def _as_printed(values: Mapping[str, float], quantity: str) -> str:
    value = values.get(quantity)
    if value is None:
        return "-"
    if quantity == "epochs":
        return f"{value:.0f}" + (f"+{values[_SUBSCRIPT]:.0f}" if _SUBSCRIPT in values else "")
    return f"{value:.0f}" if quantity == _STEPS else f"{value:.2f}"
