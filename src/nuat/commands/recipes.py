"""``nuat recipes``."""

from dataclasses import dataclass

from rich.table import Table

from nuat.config.arguments import parse
from nuat.listing import groups
from nuat.paper import TABLES
from nuat.progress import terminal
from nuat.report.paper_table import paper_table


@dataclass(frozen=True, kw_only=True)
class _Recipes:
    """List the recipes that 'nuat train' takes."""

    table: str | None = None
    """Table of the paper, shown with our recipes beside its numbers: 1a, 1b, 2-cifar10, 2-imagenet100, 2-mnist. None:
    list all recipes."""


def recipes(arguments: list[str]) -> int:
    """``nuat recipes [--table 1a]``."""
    asked = parse(_Recipes, arguments, prog="nuat recipes")
    console = terminal()
    if asked.table is not None:
        console.print(paper_table(asked.table))
        return 0
    found = groups()
    width = max(len(name) for group in found.values() for name in group)
    for title, group in found.items():
        console.print(title, style="bold")
        table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 0, 0, 2))
        table.add_column(no_wrap=True, min_width=width)
        table.add_column()
        alike = len(group) > 1 and len({line.partition(": ")[0] for line in group.values()}) == 1
        for name, line in group.items():  # a beginning that all lines share is in the heading
            table.add_row(name, (line.partition(": ")[2] if alike else line).removesuffix("."))
        console.print(table)
        console.print()
    for text in (
        "'nuat train RECIPE --help' shows the settings of a recipe; each can be changed: --epochs 10.",
        f"'nuat recipes --table 1a' shows a table of the paper with its recipes; tables: {', '.join(TABLES)}.",
    ):
        console.print(text, soft_wrap=False)
    return 0
