"""From what the user names to runs: folders of runs, and folders that hold such, at any depth."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nuat.errors import InputError
from nuat.report.page.runs import Run, is_run, read_run


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies under the paths that were named."""

    runs: tuple[Run, ...]
    """At least one; in the order of the paths, then by name."""
    unreadable: tuple[tuple[str, str], ...]
    """Folders that were found by searching and could not be read, each with the reason."""
    analyses: tuple[Path, ...]
    """Records of ``nuat analyse`` that lie outside the runs' folders."""


def find_runs(paths: Sequence[Path]) -> Found:
    """Return the runs in ``paths``, each once.

    Args:
        paths: folders of runs or of campaigns, or folders that hold such.

    Raises:
        InputError: a path does not exist, holds no run, or is the folder of a run that cannot be read.
    """
    if not paths:
        raise InputError("say which runs: nuat report RUNS..., folders of runs or of campaigns.")
    folders: dict[Path, tuple[Path, bool]] = {}  # by its real path: as it is called, and whether it was named itself
    analyses: dict[Path, None] = {}
    for path in paths:
        found = _below(path)
        if not found:
            raise InputError(f"{path}: holds no run; a run's folder has a config.json, as 'nuat train' writes it.")
        for folder in found:
            called, named = folders.get(folder.resolve(), (folder, False))
            folders[folder.resolve()] = called, named or folder == path
        if not is_run(path):
            analyses |= dict.fromkeys(sorted(path.glob("analysis-*.json")))
    runs, unreadable = [], []
    for folder, named in folders.values():
        try:
            runs.append(read_run(folder))
        except InputError as error:
            if named:
                raise
            unreadable.append((str(folder), str(error).removeprefix(f"{folder}: ")))
    if not runs:
        raise InputError(f"no run can be read; the first, {unreadable[0][0]}: {unreadable[0][1]}")
    return Found(runs=_with_campaigns(runs), unreadable=tuple(unreadable), analyses=tuple(analyses))


def _with_campaigns(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs, those that a campaign has not ended yet with its name and the label of their other seeds."""
    campaigns = {run.path.resolve().parent.parent: run.campaign for run in runs if run.campaign is not None}
    labels = {run.path.resolve().parent: run.label for run in runs if run.label is not None}
    return tuple(
        replace(
            run,
            campaign=run.campaign or campaigns.get(run.path.resolve().parent.parent),
            label=run.label or labels.get(run.path.resolve().parent),
        )
        if re.fullmatch(r"seed-\d+", run.path.name)
        else run
        for run in runs
    )


def _below(path: Path) -> list[Path]:
    """Return the folders of runs at or under ``path``, in the order of their names."""
    if not path.exists():
        raise InputError(f"{path}: no such folder.")
    if not path.is_dir():
        raise InputError(f"{path}: is a file; name the folder of a run, or one that holds runs.")
    found: list[Path] = []
    for name, inner, _ in os.walk(path):
        if is_run(Path(name)):
            found.append(Path(name))
            inner.clear()  # nothing inside a run is another run
        else:
            inner[:] = sorted(folder for folder in inner if not folder.startswith("."))
    return found
