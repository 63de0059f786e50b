"""Output on the terminal: literal text, and the progress of a run as a live bar, plain lines, or nothing."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from nuat.errors import printable

_SECONDS_BETWEEN_LINES = 30.0
_WIDE = 100
"""Columns of a terminal from which a bar also shows its rate and the time so far."""


class Progress(Protocol):
    """Function that hears how far something is."""

    def __call__(self, name: str, done: float, total: int, step: str = "", /) -> None:
        """Hear that ``done`` of ``total`` units are done.

        Args:
            name: name of what runs, such as an attack.
            done: units, such as images; a fraction while a batch is under way.
            total: units in all.
            step: place within the batch, such as "step 37/100". Empty: between batches.
        """


class _LiteralConsole(Console):
    """A console that takes every string as it is, and a string that is printed as one line."""

    def print(self, *things: Any, **options: Any) -> None:
        """Print strings, one line each, and tables."""
        if all(isinstance(thing, str) for thing in things):
            things = tuple(map(printable, things))
            options.setdefault("soft_wrap", True)
        super().print(*things, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text with control characters as escapes; strings in the cells of a table come here, too."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def terminal(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return the console of a command.

    Names of runs, classes and files reach the terminal through it: square brackets are no markup, ``:smile:`` is no
    emoji, and control characters are shown as escapes.
    """
    return _LiteralConsole(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


class Reporter:
    """Base of the reporters. This one prints nothing, so a library user gets silence by default."""

    def message(self, text: str, *, style: str = "") -> None:
        """Print one line."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Begin a task of ``total`` units, of which ``done`` are done."""

    def advance(self, done: float, note: str = "") -> None:
        """Report that ``done`` units are done in all."""

    def end(self) -> None:
        """End the task."""

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        """Take the metrics of a training step (scalars on the device)."""


class TerminalReporter(Reporter):
    """Prints to a console; the bar is drawn only on a terminal."""

    def __init__(self, console: Console) -> None:
        """Take the console, as ``terminal`` returns it."""
        self.console = console
        self._bar: rich.progress.Progress | None = None
        self._task: Any = None
        self._title, self._total, self._first = "", 0, 0
        self._began = self._told = time.monotonic()

    def message(self, text: str, *, style: str = "") -> None:
        """Print one line above the bar."""
        self.console.print(text, style=style or None)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Draw a bar on a terminal; elsewhere ``advance`` prints a line now and then."""
        self._title, self._total = title.strip(), total
        self._began = self._told = time.monotonic()
        self._first = done
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            return
        wide = self.console.width >= _WIDE
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),  # a model may have any name
            BarColumn(bar_width=24 if wide else None),
            MofNCompleteColumn(),
            *([TextColumn("{task.fields[rate]}"), TimeElapsedColumn()] if wide else []),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            expand=not wide,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(printable(title), total=total, completed=done, rate="", note="")
        self._bar.start()

    def advance(self, done: float, note: str = "") -> None:
        """Move the bar, or print a line if the last one is a while ago."""
        now = time.monotonic()
        rate = (done - self._first) / max(now - self._began, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=f"{rate:.1f}/s", note=note)
        elif now - self._told > _SECONDS_BETWEEN_LINES:
            self._told = now
            left = (self._total - done) / max(rate, 1e-9)
            where = f"{self._title}  {int(done)}/{self._total}  {note}".rstrip()
            self.message(f"{where}  {rate:.1f}/s  {left / 60:.1f} min left")

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextlib.contextmanager
def progress_bars(reporter: Reporter) -> Iterator[Progress]:
    """Yield a function that draws a bar for each name in turn, and remove the last bar."""
    current = ""

    def advance(name: str, done: float, total: int, step: str = "", /) -> None:
        nonlocal current
        if name != current:
            reporter.end()
            reporter.begin(f"{name:<12}", total)
            current = name
        reporter.advance(done, step)

    try:
        yield advance
    finally:
        reporter.end()


def duration(seconds: float) -> str:
    """Return a time in seconds as people write it: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
