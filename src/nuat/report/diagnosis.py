"""A diagnosis on the terminal: the verdict, one line for each check, and on request what each check means."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nuat.diagnostics.examination import Examination
from nuat.diagnostics.verdict import Status, Verdict

_WORDS = {Status.PASS: "pass", Status.FAIL: "FAIL", Status.INCONCLUSIVE: "cannot judge"}
_STYLES = {Status.PASS: "green", Status.FAIL: "bold red", Status.INCONCLUSIVE: "yellow"}
LEGEND = "pt: points by which the supposedly weaker attack breaks more [95 % interval]"
"""Explanation of the measurements in points."""


def headline(found: Examination) -> str:
    """Return the verdict on a model in one line, with the counts."""
    counts = {status: sum(verdict.status is status for verdict in found.verdicts) for status in Status}
    told = ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items())
    verdict = "believable, as far as these checks see"
    if counts[Status.INCONCLUSIVE]:
        verdict = "no check fails, but some cannot judge"
    if counts[Status.FAIL]:
        verdict = "not to be believed"
    total = len(found.verdicts) + len(found.skipped)
    partial = f"Partial verdict, {len(found.verdicts)} of {total} checks" if found.skipped else "Verdict"
    return f"{partial}: {verdict} ({told}; {found.evaluation.n:,} images)"


def verdict_lines(verdicts: Sequence[Verdict]) -> Table:
    """Return a line for each check: its name, the measurement, and pass, FAIL or cannot judge."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("check", "measured", "verdict"):
        table.add_column(name, no_wrap=True)
    for verdict in verdicts:
        table.add_row(verdict.check, verdict.shown or "-", Text(_WORDS[verdict.status], style=_STYLES[verdict.status]))
    return table


def verdict_prose(verdicts: Sequence[Verdict]) -> Table:
    """Return verdicts with their thresholds, all measurements, and what each means."""
    table = Table(show_lines=True)
    for name in ("check", "verdict", "measured", "what it means"):
        table.add_column(name)
    for verdict in verdicts:
        measured = "\n".join(f"{name.replace('_', ' ')}: {_figure(value)}" for name, value in verdict.measured.items())
        table.add_row(
            Text.assemble(verdict.check, "\n", (verdict.threshold, "dim")),
            Text(_WORDS[verdict.status], style=_STYLES[verdict.status]),
            measured,
            verdict.meaning,
        )
    return table


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_figure(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " to ".join(_figure(item) for item in value)
    return f"{round(value, 9):.4g}" if isinstance(value, float) else str(value)  # an interval may begin at 1e-18
