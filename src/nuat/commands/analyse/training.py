"""``nuat analyse training``."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from nuat.analysis.runs import find_runs
from nuat.analysis.training_curves import training_curves
from nuat.commands.analyse.options import OutputOptions, finish, parse_paths, target
from nuat.errors import InputError

_MOST = 12


@dataclass(frozen=True, kw_only=True)
class _Training(OutputOptions):
    """Losses, validation accuracies, lambda, learning rate, alarms and switches over the epochs of runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or of campaigns, whose finished rows are taken."""


def run(arguments: list[str]) -> int:
    """``nuat analyse training RUNS...``."""
    asked = parse_paths(_Training, arguments, "nuat analyse training", "which runs")
    first = asked.runs[0]
    folder = target(asked, first if first.is_dir() else first.parent)
    runs = find_runs(asked.runs)
    if len(runs) > _MOST:
        raise InputError(f"{len(runs)} runs do not fit into one figure; name at most {_MOST}.")
    finish(training_curves(runs), asked, folder, Console())
    return 0
