"""Runs that are finished, read off their folders: what was trained, at what cost, and what it withstands."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuat.analysis.settings import told_apart
from nuat.attacks.catalogue import WORST_CASE as WORST_CASE
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.records.folder import RunFolder


@dataclass(frozen=True)
class Accuracy:
    """What one attack left."""

    value: float
    """In [0, 1]."""
    n: int
    """Images."""
    images: str
    """test or validation."""
    attacks: tuple[str, ...]
    """Those that a worst case is over; else the attack alone."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with its evaluations."""

    folder: Path
    """Where it lies."""
    name: str
    """The method: the row's label in a campaign, else the recipe; runs of one name differ in their seeds alone."""
    seed: int | None
    """Of the training; none where the record does not say."""
    config: Mapping[str, Any]
    """Its settings, as JSON values."""
    metrics: Sequence[Mapping[str, Any]]
    """The lines of its metrics; none: they were not kept."""
    accuracies: Mapping[str, Accuracy]
    """By attack, within the run's own ball: on test images if there are any, and of these on the most."""
    norm: str
    """Linf or L2."""
    eps: float | None
    """Radius of the ball that it was trained and attacked in; none: its records do not say."""
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

    @property
    def network(self) -> str | None:
        """Name and width of the model."""
        values = self.config.get("model")
        if not isinstance(values, Mapping):
            return None
        width = values.get("width")
        return str(values.get("name")) + ("" if width is None else f" of width {width}")


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
    runs = list(found.values())
    columns = ([run.name for run in runs], [run.config for run in runs], [run.seed for run in runs])
    names = told_apart(*columns, [run.folder for run in runs])
    return tuple(replace(run, name=name) for run, name in zip(runs, names, strict=True))


def check_same_data(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of different images, networks or balls: their accuracies do not belong into one figure.

    Raises:
        InputError: two that differ are named.
    """
    for what in ("data", "network", "norm", "eps"):
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
        return [_from_folder(path.parent, path)]
    if not path.is_dir():
        raise InputError(f"{path}: no such run or file.")
    if (path / "row.json").is_file():
        return [_from_row(path / "row.json")]
    if RunFolder(path).config.is_file():
        return [_from_folder(path)]
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
    folder = path.parent
    config = _config(folder)
    norm = _ball(config)[0] or "Linf"
    try:
        eps = float(row["eps"])
        parts = {f"evaluation-{name}.json": str(suite["images"]) for name, suite in row["suites"].items()}
        files = _evaluations(folder, parts)
        found = [one for _, evaluation, images in files for one in _of(evaluation, images, norm, eps)]
        there = {file.name for file, _, _ in files}
        for name, suite in row["suites"].items():
            if f"evaluation-{name}.json" not in there:
                attacks = tuple(attack for attack in suite["accuracies"] if attack != WORST_CASE)
                values = {attack: float(value) for attack, value in suite["accuracies"].items()}
                found += _accuracies(attacks, values, int(suite["n"]), str(suite["images"]))
        return FinishedRun(
            folder=folder,
            name=_label(row),
            seed=row["seed"],
            config=config,
            metrics=_metrics(folder),
            accuracies=_best(found),
            norm=norm,
            eps=eps,
            hardware=row["hardware"],
            seconds=row["seconds"]["training"],
            forwards=row["forwards"],
            backwards=row["backwards"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: damaged; it does not hold a finished row of a campaign.") from None


def _label(row: Mapping[str, Any]) -> str:
    """Return how a campaign calls a row; the recipe where it only lists settings, which ``told_apart`` does as well."""
    label, recipe = str(row["label"]), str(row.get("recipe"))
    listed = row.get("settings") and label.startswith(f"{recipe} (") and label.endswith(")")
    return recipe if listed else label


def _from_folder(folder: Path, only: Path | None = None) -> FinishedRun:
    """Return the run in a folder with all its evaluations, or with one ``only``."""
    if not RunFolder(folder).config.is_file():
        raise InputError(f"{folder}: not the folder of a run (no config.json), so nothing says what was trained there.")
    row = _json(folder / "row.json") if (folder / "row.json").is_file() else {}
    suites = row.get("suites", {})
    parts = {f"evaluation-{name}.json": str(suite.get("images", "test")) for name, suite in suites.items()}
    files = _evaluations(folder, parts, only)
    config = _config(folder)
    norm, eps = _ball(config)
    if norm is None or eps is None:  # settings that do not say; then it is as it was attacked
        norm, eps = (files[0][1].norm, files[0][1].eps) if files else ("Linf", None)
    for file, evaluation, _ in files:
        if only is not None and (evaluation.norm, evaluation.eps) != (norm, eps):
            raise InputError(
                f"{file}: attacked within {evaluation.norm} {evaluation.eps:g}, but the run was trained for {norm} "
                f"{eps:g}; give an evaluation within that."
            )
    found = [one for _, evaluation, images in files for one in _of(evaluation, images, norm, eps)]
    metrics = _metrics(folder)
    last: Mapping[str, Any] = next((line for line in reversed(metrics) if line.get("kind") in ("end", "epoch")), {})
    environment = RunFolder(folder).environment
    return FinishedRun(
        folder=folder,
        name=str(_json(RunFolder(folder).config).get("recipe", folder.name)),
        seed=config.get("seed"),
        config=config,
        metrics=metrics,
        accuracies=_best(found),
        norm=norm,
        eps=eps,
        hardware=_json(environment).get("hardware") if environment.is_file() else None,
        seconds=last.get("seconds"),
        forwards=last.get("forwards"),
        backwards=last.get("backwards"),
    )


def _evaluations(
    folder: Path, parts: Mapping[str, str], only: Path | None = None
) -> list[tuple[Path, Evaluation, str]]:
    """Return (file, evaluation, test or validation), the one that ended the run first; ``parts`` is by file's name."""
    paths = [path for path in sorted(folder.glob("evaluation*.json")) if not path.name.endswith(".partial.json")]
    paths.sort(key=lambda path: path.name != "evaluation.json")
    found = []
    for path in [only] if only is not None else paths:
        values = _json(path)
        try:
            # the first files said no norm
            evaluation = Evaluation.from_json({"norm": "Linf", **values})
            if not evaluation.results or any(len(result.correct) != evaluation.n for result in evaluation.results):
                raise ValueError(path.name)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            raise InputError(f"{path}: does not hold an evaluation.") from None
        found.append((path, evaluation, parts.get(path.name, "test")))
    return found


def _of(found: Evaluation, images: str, norm: str, eps: float | None) -> list[tuple[str, Accuracy]]:
    """Return the accuracies of an evaluation within the ball of the run; none of one within another."""
    if (found.norm, found.eps) != (norm, eps):
        return []
    attacks = tuple(result.name for result in found.results)
    return _accuracies(attacks, {name: found.accuracy(name) for name in (*attacks, WORST_CASE)}, found.n, images)


def _accuracies(
    attacks: tuple[str, ...], values: Mapping[str, float], n: int, images: str
) -> list[tuple[str, Accuracy]]:
    """Return an accuracy for each attack, and the worst case where several attacks make one."""
    found = [(name, Accuracy(values[name], n, images, (name,))) for name in attacks]
    if WORST_CASE in values and len([name for name in attacks if name != "clean"]) > 1:
        found.append((WORST_CASE, Accuracy(values[WORST_CASE], n, images, attacks)))
    return found


def _best(found: Sequence[tuple[str, Accuracy]]) -> dict[str, Accuracy]:
    """Return, of each attack, what was measured on test images if anything was, and of that on the most images."""
    best: dict[str, Accuracy] = {}
    for name, one in found:
        known = best.get(name)
        if known is None or (one.images == "test", one.n) > (known.images == "test", known.n):
            best[name] = one
    return best


def _ball(config: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """Return norm and radius that a run was trained for, none where its settings do not say."""
    threat = config.get("threat")
    if not isinstance(threat, Mapping) or not isinstance(threat.get("eps"), (int, float)):
        return None, None
    return str(threat.get("norm", "Linf")), float(threat["eps"])


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
