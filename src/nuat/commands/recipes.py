"""``nuat recipes``."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from nuat.config.arguments import parse
from nuat.listing import summaries
from nuat.paper import TABLES
from nuat.report.paper_table import paper_table


def recipes(arguments: list[str]) -> int:
    """``nuat recipes [--table 1a]``."""
    asked = parse(_Recipes, arguments, prog="nuat recipes")
    console = Console()
    if asked.table is not None:
        console.print(paper_table(asked.table))
        return 0
    table = Table(show_header=True, box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it trains")
    for name, line in summaries().items():
        table.add_row(name, line)
    console.print(table)
    console.print(
        "\n'nuat train RECIPE --help' shows every setting; any can be changed: --epochs 10.\n"
        f"'nuat recipes --table 1a' shows the paper's numbers beside them; tables: {', '.join(TABLES)}.",
        highlight=False,
    )
    return 0


@dataclass(frozen=True, kw_only=True)
class _Recipes:
    """List the recipes that 'nuat train' takes."""

    table: str | None = None
    """Only those of a table of the paper, with its numbers: 1a, 1b, 2-cifar10, 2-imagenet100, 2-mnist; none: all."""
