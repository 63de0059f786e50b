"""Tables on the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nuat.core.eps import eps_text
from nuat.diagnostics.verdict import Status, Verdict
from nuat.errors import printable
from nuat.evaluation.comparison import Difference
from nuat.evaluation.results import AttackResult, Evaluation, wilson_interval


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return an evaluation as a table: one row per attack, the worst case last."""
    table = Table(
        title=f"{evaluation.n} test images, {evaluation.norm} eps "
        f"{eps_text(evaluation.eps, evaluation.norm)}, seed {evaluation.seed}, "
        f"{evaluation.hardware}",
        title_justify="left",
    )
    table.add_column("attack", overflow="fold")
    for name in ("accuracy %", "95 % interval", "seconds", "forward", "backward"):
        table.add_column(name, justify="right")
    for result in evaluation.results:
        if result.shared_with is None:
            cost = [f"{result.seconds:.1f}", f"{result.forwards:,}", f"{result.backwards:,}"]
        else:
            cost = [f"in {result.shared_with}", "", ""]
        name = f"{result.name} *" if _takes_survivors(result) else result.name
        table.add_row(name, f"{100 * result.accuracy:.2f}", _interval(result.interval), *cost)
    worst = evaluation.worst_case
    interval = wilson_interval(int(worst.sum()), evaluation.n)
    table.add_section()
    table.add_row("worst case", f"{100 * evaluation.accuracy('worst-case'):.2f}", _interval(interval), "", "", "")
    notes = []
    if any(map(_takes_survivors, evaluation.results)):
        notes.append("* on what the attacks above it left standing: its accuracy is that of all of them together")
    if any(result.settings.get("version") == "fast" for result in evaluation.results):
        notes.append("autoattack-fast stops early: an upper bound of AutoAttack's accuracy, not AutoAttack's")
    if notes:
        table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def _takes_survivors(result: AttackResult) -> bool:
    """Return whether an attack took what others left standing: they are in its accuracy, too."""
    return any(name != "clean" for name in result.settings.get("after", ()))


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


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"


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
