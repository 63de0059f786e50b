"""Runs that are finished, read off their folders: what was trained, at what cost, and what it withstands."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuat.errors import InputError
from nuat.records import RunFolder
from nuat.results import Evaluation


@dataclass(frozen=True)
class Accuracy:
    """What one attack left."""

    value: float
    """In [0, 1]."""
    n: int
    """Images."""
    images: str
    """test or validation."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with its evaluations."""

    folder: Path
    """Where it lies."""
    name: str
    """The method: the row's label in a campaign, else the recipe."""
    seed: int | None
    """Of the training; none where the record does not say."""
    config: Mapping[str, Any]
    """Its settings, as JSON values."""
    metrics: Sequence[Mapping[str, Any]]
    """The lines of its metrics; none: they were not kept."""
    accuracies: Mapping[str, Accuracy]
    """By attack; the worst case is that of the first suite."""
    eps: float | None
    """Radius that it was attacked at."""
    hardware: str | None
    """What it was trained on."""
    seconds: float | None
    """Of training."""
    forwards: int | None
    """Images forward in training."""
    backwards: int | None
    """Images backward in training."""

    @property
    def data(self) -> str | None:
        """Name of the images, to tell runs of other data apart."""
        values = self.config.get("data")
        if values is None:
            return None
        return Path(values["path"]).name if values.get("path") else str(values.get("name"))


def find_runs(paths: Sequence[Path]) -> tuple[FinishedRun, ...]:
    """Return the runs that ``paths`` name: folders of runs or of campaigns, row.json files, or evaluations' files.

    Of a campaign's folder the rows that are done are taken.

    Raises:
        InputError: no path, one that names no run, or a record that cannot be read.
    """
    if not paths:
        raise InputError("name at least one run, campaign folder, row.json or evaluation's JSON file.")
    found: dict[Path, FinishedRun] = {}
    for path in paths:
        for run in _runs_of(path):
            found.setdefault(run.folder.resolve(), run)
    return _told_apart(list(found.values()))


def _told_apart(runs: Sequence[FinishedRun]) -> tuple[FinishedRun, ...]:
    """Return the runs with the folder beside the name of those that one name and one seed do not tell apart."""
    counts = Counter((run.name, run.seed) for run in runs)
    told = [
        replace(run, name=f"{run.name} ({run.folder.name})") if counts[run.name, run.seed] > 1 else run for run in runs
    ]
    places: dict[tuple[str, int | None], FinishedRun] = {}
    for run in told:
        other = places.setdefault((run.name, run.seed), run)
        if other is not run:
            raise InputError(f"{other.folder} and {run.folder} are both {run.name}, seed {run.seed}; give one of them.")
    return tuple(told)


def check_same_data(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of different images or eps: their accuracies do not belong into one figure.

    Raises:
        InputError: two that differ are named.
    """
    for what in ("data", "eps"):
        told: dict[object, FinishedRun] = {}
        for run in runs:
            if getattr(run, what) is not None:
                told.setdefault(getattr(run, what), run)
        if len(told) > 1:
            (a, one), (b, other) = list(told.items())[:2]
            raise InputError(f"{one.folder} and {other.folder} are of different {what}: {a} and {b}; give runs of one.")


def _runs_of(path: Path) -> list[FinishedRun]:
    if path.is_file():
        if path.name == "row.json":
            return [_from_row(path)]
        return [_from_folder(path.parent, [path])]
    if not path.is_dir():
        raise InputError(f"{path}: no such run or file.")
    if (path / "row.json").is_file():
        return [_from_row(path / "row.json")]
    if RunFolder(path).config.is_file():
        evaluations = [file for file in sorted(path.glob("evaluation*.json")) if ".partial" not in file.name]
        return [_from_folder(path, evaluations)]
    rows = sorted(path.rglob("row.json"))
    if not rows:
        raise InputError(f"{path}: neither the folder of a run nor that of a campaign (no config.json, no row.json).")
    done = [row for row in rows if _json(row).get("status") == "done"]
    if not done:
        raise InputError(f"{path}: none of its {len(rows)} rows is done.")
    return [_from_row(row) for row in done]


def _from_row(path: Path) -> FinishedRun:
    row = _json(path)
    if row.get("status") != "done":
        raise InputError(f"{path}: this row is not done ({row.get('reason', 'no reason given')}).")
    try:
        accuracies: dict[str, Accuracy] = {}
        for suite in row["suites"].values():
            for attack, value in suite["accuracies"].items():
                accuracies.setdefault(attack, Accuracy(float(value), int(suite["n"]), str(suite["images"])))
        return FinishedRun(
            folder=path.parent,
            name=str(row["label"]),
            seed=row["seed"],
            config=_config(path.parent),
            metrics=_metrics(path.parent),
            accuracies=accuracies,
            eps=row["eps"],
            hardware=row["hardware"],
            seconds=row["seconds"]["training"],
            forwards=row["forwards"],
            backwards=row["backwards"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: damaged; it does not hold a finished row of a campaign.") from None


def _from_folder(folder: Path, evaluations: Sequence[Path]) -> FinishedRun:
    if not RunFolder(folder).config.is_file():
        raise InputError(f"{folder}: not the folder of a run (no config.json), so nothing says what was trained there.")
    accuracies: dict[str, Accuracy] = {}
    eps = None
    for path in evaluations:
        values = _json(path)
        try:
            found = Evaluation.from_json(values)
            for name in (*(result.name for result in found.results), "worst-case"):
                accuracies.setdefault(name, Accuracy(found.accuracy(name), found.n, "test"))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):  # RuntimeError: of an empty line-up
            raise InputError(f"{path}: does not hold an evaluation.") from None
        eps = eps if eps is not None else found.eps
    metrics = _metrics(folder)
    last: Mapping[str, Any] = next((line for line in reversed(metrics) if line.get("kind") in ("end", "epoch")), {})
    config = _json(RunFolder(folder).config)
    environment = RunFolder(folder).environment
    return FinishedRun(
        folder=folder,
        name=str(config.get("recipe", folder.name)),
        seed=_config(folder).get("seed"),
        config=_config(folder),
        metrics=metrics,
        accuracies=accuracies,
        eps=eps,
        hardware=_json(environment).get("hardware") if environment.is_file() else None,
        seconds=last.get("seconds"),
        forwards=last.get("forwards"),
        backwards=last.get("backwards"),
    )


def _config(folder: Path) -> dict[str, Any]:
    path = RunFolder(folder).config
    values = _json(path).get("config", {}) if path.is_file() else {}
    return values if isinstance(values, dict) else {}


def _metrics(folder: Path) -> list[dict[str, Any]]:
    run = RunFolder(folder)
    if not run.metrics.is_file():
        return []
    try:
        return run.read_metrics()
    except ValueError:
        raise InputError(f"{run.metrics}: damaged; it does not hold the metrics of a run.") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path}: not JSON, or cut off.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: does not hold a record.")
    return values
