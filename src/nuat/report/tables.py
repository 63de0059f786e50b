"""Tables on the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nuat.diagnostics.verdict import Status, Verdict
from nuat.errors import printable
from nuat.evaluation.comparison import Difference


def comparison_table(differences: Sequence[Difference], a: str, b: str) -> Table:
    """Return the differences of two models, one row per attack: accuracies in %, the difference in points."""
    table = Table(title=f"A: {printable(a)}\nB: {printable(b)}", title_justify="left")
    table.add_column("attack")
    for name in ("n", "A %", "B %", "A - B", "95 % interval", "only A", "only B", "p"):
        table.add_column(name, justify="right")
    for found in differences:
        low, high = found.interval
        table.add_row(
            found.attack,
            f"{found.n:,}",
            f"{100 * found.accuracy_a:.2f}",
            f"{100 * found.accuracy_b:.2f}",
            f"{100 * (found.accuracy_a - found.accuracy_b):+.2f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            str(found.only_a),
            str(found.only_b),
            f"{found.p_value:.2g}",
        )
    return table


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """Return verdicts as a table: check, status, measurement and meaning."""
    table = Table(title="Is this robustness to be believed?", title_justify="left", show_lines=True)
    for name in ("check", "verdict", "measured", "what it means"):
        table.add_column(name)
    styles = {Status.PASS: "green", Status.FAIL: "bold red", Status.INCONCLUSIVE: "yellow"}
    for verdict in verdicts:
        measured = "\n".join(f"{name.replace('_', ' ')}: {_figure(value)}" for name, value in verdict.measured.items())
        table.add_row(
            Text.assemble(verdict.check, "\n", (verdict.threshold, "dim")),
            Text(verdict.status.value, style=styles[verdict.status]),
            Text(measured),
            Text(verdict.meaning),
        )
    return table


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_figure(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " to ".join(_figure(item) for item in value)
    return f"{round(value, 9):.4g}" if isinstance(value, float) else str(value)  # an interval may begin at 1e-18
