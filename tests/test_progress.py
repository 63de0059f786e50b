"""Text that reaches the terminal as it is, whatever names are in it."""

import io
from typing import Any

import pytest
from rich.table import Table

from nuat.errors import printable
from nuat.progress import TerminalReporter, progress_bars, terminal

NAMES = ["exp[lr=0.1]", "exp [/x] a", "[bold red]x[/]", ":smile:", "a\\[b"]
ESCAPED = {
    "a\x1b[31mb": r"a\x1b[31mb",
    "a\rb": r"a\rb",
    "a\x9bb": r"a\x9bb",
    "\udcff": r"\udcff",
    "\u202ea": r"\u202ea",
}


def written(*things: Any, style: str | None = None) -> str:
    console = terminal()
    console.file = io.StringIO()
    console.print(*things, style=style)
    return console.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_names_are_no_markup(name: str) -> None:
    table = Table(title=name, caption=name)
    table.add_column(name)
    table.add_row(name)
    assert written(f"to {name}") == f"to {name}\n"
    assert written(table).count(name) == 4


@pytest.mark.parametrize(("name", "shown"), ESCAPED.items())
def test_control_characters_are_shown(name: str, shown: str) -> None:
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    assert printable(name) == shown
    for text, times in ((written(name), 1), (written(name, style="bold"), 1), (written(table), 3)):
        assert text.count(shown) == times
        assert name not in text


def test_a_string_is_one_line_and_a_cell_may_have_several() -> None:
    assert written("a\nb") == "a\\nb\n"
    assert written("x " * 200) == "x " * 200 + "\n"
    table = Table("cell")
    table.add_row("a\nb")
    assert len(written(table).splitlines()) == 6
    console = terminal()
    console.file = io.StringIO()
    reporter = TerminalReporter(console)
    reporter.message("a\nb [/x]")
    with progress_bars(reporter) as progress:
        progress("n\x1bame [/x]", 1, 2)
    assert console.file.getvalue() == "a\\nb [/x]\n"


def test_letters_of_all_scripts_stay() -> None:
    assert printable("Füchse 狐 🦊") == "Füchse 狐 🦊"
