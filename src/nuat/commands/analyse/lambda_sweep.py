"""``nuat analyse lambda-sweep``."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from nuat.analysis.lambda_sweep import has_lambda, lambda_sweep
from nuat.analysis.runs import find_runs
from nuat.commands.analyse.options import OutputOptions, finish, parse_paths, target


@dataclass(frozen=True, kw_only=True)
class _LambdaSweep(OutputOptions):
    """Clean and robust accuracy of NuAT runs against lambda."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of NuAT runs, or of campaigns, of which the NuAT rows are taken."""
    attack: str | None = None
    """Of the robust accuracy; none: AutoAttack, or the strongest that every run has."""


def run(arguments: list[str]) -> int:
    """``nuat analyse lambda-sweep RUNS... [--attack NAME]``."""
    asked = parse_paths(_LambdaSweep, arguments, "nuat analyse lambda-sweep", "which runs")
    first = asked.runs[0]
    folder = target(asked, first if first.is_dir() else first.parent)
    runs = find_runs(asked.runs)
    kept = [one for one in runs if has_lambda(one)]
    console = Console()
    record = lambda_sweep(kept or runs, asked.attack)
    for left, why in (
        (len(runs) - len(kept), "which have no lambda"),
        (len(kept) - len(record.points), "attacked on validation images alone"),
    ):
        if left:
            console.print(f"left out: {left} of {len(runs)} runs, {why}", highlight=False)
    finish(record, asked, folder, console)
    return 0
