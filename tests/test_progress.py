"""Text that reaches the terminal as it is, whatever names are in it."""

import io
import re
import time
from typing import Any

import pytest
from rich.table import Table

import nuat.progress as progress_module
from nuat.errors import printable
from nuat.progress import TerminalReporter, duration, progress_bars, terminal

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


def test_numbers_and_paths_have_no_colour() -> None:
    assert terminal().render_str("3 runs in /tmp/a").spans == []


def test_letters_of_all_scripts_stay() -> None:
    assert printable("Füchse 狐 🦊") == "Füchse 狐 🦊"


def drawn(width: int) -> tuple[TerminalReporter, io.StringIO]:
    """A reporter on a terminal of so many columns, and what it writes."""
    console = terminal()
    console.file = written_to = io.StringIO()
    console._force_terminal = console.is_interactive = True
    console.size = (width, 25)  # type: ignore[assignment]
    return TerminalReporter(console), written_to


@pytest.mark.parametrize("width", [80, 120])
def test_a_bar_shows_what_runs_its_step_and_the_time_left_in_one_line(width: int) -> None:
    reporter, out = drawn(width)
    with progress_bars(reporter) as progress:
        for done in range(4):
            progress("adaptive-same-class-100", 200 + done / 4, 1000, f"step {25 * done}/100")
            time.sleep(0.01)
        progress("adaptive-same-class-100", 205, 1000, "step 99/100")
        assert reporter._bar is not None
        reporter._bar.refresh()
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue())
    shown = [line.strip() for line in re.split(r"[\r\n]", text) if "step 99/100" in line]
    assert shown
    assert all(re.search(r"adaptive-same-class-100 .*205/1000 .*step 99/100 .*left", line) for line in shown)
    assert all(len(line) <= width for line in shown)


def test_elsewhere_it_is_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_SECONDS_BETWEEN_LINES", -1.0)
    console = terminal()
    console.file = out = io.StringIO()
    with progress_bars(TerminalReporter(console)) as progress:
        progress("pgd-100", 62.5, 250, "step 25/100")
    (line,) = out.getvalue().splitlines()
    assert re.fullmatch(r"pgd-100  62/250  step 25/100  [\d.]+/s  [\d.]+ min left", line)
    assert not set(line) & set("\r\x1b")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (45.4, "45 s"), (89.0, "89 s"), (90.0, "2 min"), (720.0, "12 min"), (5399.0, "90 min"),
     (5400.0, "1.5 h"), (12240.0, "3.4 h")],
)  # fmt: skip
def test_a_time_as_people_write_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_bar_has_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = terminal()
    console.file, console._force_terminal, console.is_interactive = io.StringIO(), True, True
    reporter = TerminalReporter(console)
    reporter.begin("[bold]x[/bold] [/] \x1b[31m", 2)
    reporter.advance(1, "[red]y[/red] [/]")
    assert reporter._bar is not None
    reporter._bar.refresh()
    reporter.end()
    assert r"[bold]x[/bold] [/] \x1b[31m" in console.file.getvalue()
