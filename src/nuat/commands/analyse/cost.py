"""``nuat analyse cost``."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nuat.analysis.cost import Cost, cost
from nuat.analysis.runs import find_runs
from nuat.commands.analyse.options import OutputOptions, finish, parse_paths, target


@dataclass(frozen=True, kw_only=True)
class _Cost(OutputOptions):
    """Figure 3b: robust accuracy against training time and against passes, with the Pareto front."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs or campaigns, row.json files, or JSON files of evaluations in a run's folder."""
    attack: str | None = None
    """Whose accuracy is plotted; none: AutoAttack, or the strongest that every run has."""


def run(arguments: list[str]) -> int:
    """``nuat analyse cost RECORDS... [--attack NAME]``."""
    asked = parse_paths(_Cost, arguments, "nuat analyse cost", "which runs")
    first = asked.records[0]
    folder = target(asked, first if first.is_dir() else first.parent)
    runs = find_runs(asked.records)
    record = cost(runs, asked.attack)
    console = Console()
    if len(record.points) < len(runs):
        left = f"{len(runs) - len(record.points)} of {len(runs)} runs, attacked on validation images alone"
        console.print(f"left out: {left}", highlight=False)
    finish(record, asked, folder, console, _table(record))
    return 0


def _table(record: Cost) -> Table:
    table = Table(title=escape(f"Accuracy under {record.attack}, {record.images} images"), title_justify="left")
    table.add_column("method", overflow="fold")
    for name in ("seeds", "accuracy %", "interval", "training (s)", "passes (M)"):
        table.add_column(name, justify="right")
    for method in record.methods:
        interval = method.interval
        table.add_row(
            escape(method.name),
            str(method.runs) if method.seeds == method.runs else f"{method.seeds} of {method.runs}",
            "-" if method.accuracy is None else f"{100 * method.accuracy:.2f}",
            "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}",
            "-" if method.seconds is None else f"{method.seconds:.0f}",
            "-" if method.passes is None else f"{method.passes / 1e6:.2f}",
        )
    return table
