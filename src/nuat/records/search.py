"""Find the runs in the folders that the user names, at any depth."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nuat.errors import InputError, printable
from nuat.records.elsewhere import holds_accuracies, holds_results, read_run_or_results
from nuat.records.runs import ANALYSES, RunRecord, is_run

_NO_RUN = (
    "{}: holds no run; a run's folder has a config.json, as 'nuat train' writes it. The results of a model from "
    "elsewhere are called evaluation.json and diagnosis.json."
)


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    """The runs under the paths that were named."""

    runs: tuple[RunRecord, ...]
    """At least one; in the order of the paths, then by name."""
    unreadable: tuple[tuple[str, str], ...]
    """Folders that the search found and that could not be read, each with the reason."""
    analyses: tuple[Path, ...]
    """Records of ``nuat analyse`` outside the runs' folders."""
    base: Path
    """Folder that holds every absolute path that was named; paths are shown from here on."""


def find_runs(paths: Sequence[Path]) -> FoundRuns:
    """Return the runs in ``paths``, each once.

    Args:
        paths: folders of runs, of campaigns, or of the results of a model that nuat did not train; or folders that
            hold some of these.

    Raises:
        InputError: a path does not exist or holds no run, or a run that was named itself cannot be read.
    """
    if not paths:
        raise InputError("say which runs: nuat report RUNS..., folders of runs or of campaigns.")
    base = _base(paths)
    folders: dict[Path, tuple[Path, bool]] = {}  # real path: the path for people, and whether it was named itself
    analyses: dict[Path, Path] = {}
    for path in paths:
        found, records = runs_of(path)
        if not found and not records:
            raise InputError(_NO_RUN.format(path))
        for folder in found:
            called, named = folders.get(folder.resolve(), (folder, False))
            folders[folder.resolve()] = called, named or folder == path
        # by its real path, so that a folder named twice is drawn once
        analyses |= {record.resolve(): record for record in records if record.resolve() not in analyses}
    runs, unreadable = [], []
    for folder, named in folders.values():
        try:
            runs.append(replace(read_run_or_results(folder), called=shown(folder, base)))
        except InputError as error:
            if named:
                raise
            unreadable.append((shown(folder, base), str(error).removeprefix(f"{folder}: ")))
            for record in sorted(folder.glob(ANALYSES)):
                analyses.setdefault(record.resolve(), record)
    if not folders:
        raise InputError(_NO_RUN.format(paths[0]))
    if not runs:
        raise InputError(f"no run can be read; the first, {unreadable[0][0]}: {unreadable[0][1]}")
    return FoundRuns(
        runs=_with_campaigns(runs), unreadable=tuple(unreadable), analyses=tuple(analyses.values()), base=base
    )


def shown(path: Path, base: Path) -> str:
    """Return a path for people, printable: as it was given, an absolute one from ``base`` on."""
    if not path.is_absolute():
        return printable(str(path))
    absolute = Path(os.path.normpath(path))
    return printable(str(absolute.relative_to(base)) if absolute.is_relative_to(base) else f".../{absolute.name}")


def _base(paths: Sequence[Path]) -> Path:
    parents = [Path(os.path.normpath(path)).parent for path in paths if path.is_absolute()]
    return Path(os.path.commonpath(parents) if parents else os.sep)


def _with_campaigns(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Return the runs; those that their campaign has not finished get its name and the label of their other seeds."""
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


def runs_of(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs at or under ``path``, and the records of analyses outside them, in order of name.

    Folders with the results of a model from elsewhere count as runs. ``path`` itself counts as such a folder unless
    runs lie under it; if all that it holds of results is a diagnosis, unless anything lies under it.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder.")
    if not path.is_dir():
        raise InputError(f"{path}: is a file; name the folder of a run, or one that holds runs.")
    found: list[Path] = []
    records: list[Path] = []
    for name, inner, _ in os.walk(path):
        if is_run(Path(name)):
            found.append(Path(name))
            inner.clear()  # nothing inside a run is another run
        else:
            if Path(name) != path and holds_accuracies(Path(name)):
                found.append(Path(name))
            else:
                records += sorted(Path(name).glob(ANALYSES))
            inner[:] = sorted(folder for folder in inner if not folder.startswith("."))
    if holds_accuracies(path) and not any(map(is_run, found)):
        found = [path, *found]
    elif holds_results(path) and not found:
        found = [path]
    return found, records
