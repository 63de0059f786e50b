"""Tables on the terminal."""

from rich.table import Table

from nuat.results import Evaluation, wilson_interval


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return an evaluation as a table: a row an attack, the worst case over all of them last."""
    table = Table(
        title=f"{evaluation.n} test images, Linf eps {eps_text(evaluation.eps)}, seed {evaluation.seed}, "
        f"{evaluation.hardware}",
        title_justify="left",
    )
    table.add_column("attack")
    for name in ("accuracy %", "95 % interval", "seconds", "forward", "backward"):
        table.add_column(name, justify="right")
    for result in evaluation.results:
        if result.shared_with is None:
            cost = [f"{result.seconds:.1f}", f"{result.forwards:,}", f"{result.backwards:,}"]
        else:
            cost = [f"in {result.shared_with}", "", ""]
        table.add_row(result.name, f"{100 * result.accuracy:.2f}", _interval(result.interval), *cost)
    worst = evaluation.worst_case
    interval = wilson_interval(int(worst.sum()), evaluation.n)
    table.add_section()
    table.add_row("worst case", f"{100 * evaluation.accuracy('worst-case'):.2f}", _interval(interval), "", "", "")
    return table


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"


def eps_text(eps: float) -> str:
    """Return a perturbation size as people write it: 8/255, or 0.3."""
    steps = eps * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{eps:g}"
