"""One run as its folder records it, read whole and checked, so that nothing later meets a damaged record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuat.errors import InputError
from nuat.hardware import hardware_text
from nuat.recipes import RECIPES
from nuat.records.checkpoints import WeightsInfo, read_info
from nuat.records.folder import RunFolder
from nuat.records.settings import to_json
from nuat.report.page.measurements import EvaluationFile, Measurement, of_row, read_evaluations

ROW = "row.json"
ANALYSES = "analysis-*.json"
"""Records of ``nuat analyse``."""
_REMEDY = "; remove it, or make it again"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, ZeroDivisionError)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch's line of the metrics says of its validation; None where it was not measured."""

    number: int
    clean: float | None
    fgsm: float | None
    pgd: float | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """A verdict of ``nuat diagnose``."""

    check: str
    status: str
    threshold: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The verdicts of ``nuat diagnose`` on a run."""

    file: str
    n: int
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]
    """What was not checked, and why."""

    def count(self, status: str) -> int:
        """Return how many checks came out as ``status``."""
        return sum(check.status == status for check in self.checks)


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """A run's records."""

    path: Path
    called: str
    """Its folder as the report names it: never by where the reader's disk has it."""
    recipe: str
    label: str | None
    """How its campaign calls it."""
    campaign: str | None
    seed: int | None
    config: Mapping[str, Any]
    """Its settings; of a row that failed before it had any, those of its recipe; empty where there are none."""
    environment: Mapping[str, Any]
    """Versions, hardware, command; empty where they were not recorded."""
    source: Mapping[str, Any]
    """Where its images came from, and how many; empty where they were not recorded."""
    metrics: tuple[Mapping[str, Any], ...]
    """Its lines as they are."""
    epochs: tuple[Epoch, ...]
    end: Mapping[str, Any]
    """Seconds, passes and best epoch of the whole training; empty where it has not ended."""
    alarms: tuple[Mapping[str, Any], ...]
    damaged: tuple[str, ...]
    """Records that could not be read and are left out, each with the reason."""
    resumed: int
    """How often it went on after it was cut off."""
    failure: str | None
    """Why its campaign gave it up, if it did."""
    evaluations: tuple[EvaluationFile, ...]
    measurements: tuple[Measurement, ...]
    """Of every evaluation."""
    diagnosis: Diagnosis | None
    analyses: tuple[Path, ...]
    """Records of ``nuat analyse``."""
    examples: Path | None
    """Picture of images before and after an attack."""
    weights: WeightsInfo | None
    """Of the best weights, where they are there."""

    @property
    def eps(self) -> float | None:
        """Radius of the ball that it was trained for."""
        eps: float | None = self.config.get("threat", {}).get("eps")
        return eps

    @property
    def norm(self) -> str:
        """Norm of that ball."""
        return _norm(self.config)

    @property
    def threat(self) -> tuple[str, float | None]:
        """The ball, by norm and radius."""
        return self.norm, self.eps

    @property
    def planned_epochs(self) -> int | None:
        """Epochs that its settings ask for."""
        epochs: int | None = self.config.get("epochs")
        return epochs

    @property
    def state(self) -> str:
        """Where its training stands, in words: "done", or what is missing."""
        if self.failure is not None:
            return "failed"
        if self.end:
            return "done"
        stop = next((alarm for alarm in self.alarms if alarm.get("stop")), None)
        if stop is not None:
            return f"ended by an alarm in epoch {stop['epoch']}"
        return f"not finished: {len(self.epochs)} of {self.planned_epochs} epochs"


def is_run(folder: Path) -> bool:
    """Return whether a folder is one that a run or a campaign's row writes."""
    return (folder / "config.json").is_file() or (folder / ROW).is_file()


def read_run(folder: Path) -> Run:
    """Return the run in a folder.

    A damaged evaluation, diagnosis or weights file is left out and named in ``damaged``: the rest still says something.

    Raises:
        InputError: it is not the folder of a run, or another record in it is damaged; which one is said.
    """
    if not is_run(folder):
        raise InputError(f"{folder}: is not the folder of a run; it holds no config.json.")
    files = RunFolder(folder)
    row: dict[str, Any] = {}
    where = ROW
    try:
        row = _row(folder / ROW)
        where = "config.json"
        recipe, config = _settings(files.config, row)
        where = "environment.json"
        environment = _environment(files.environment)
        where = "split.json"
        source = {name: value for name, value in _json(files.split).items() if name != "validation_indices"}
        int(source.get("train", 0)), int(source.get("test", 0))
        where = "metrics.jsonl"
        lines = _lines(files.metrics)
        epochs = tuple(_epoch(line) for line in lines if line["kind"] == "epoch")
        end = _end(lines, row)
        alarms = [line for line in lines if line["kind"] == "alarm"] or row.get("alarms", [])
        alarms = [{**alarm, "epoch": int(alarm["epoch"]), "monitor": str(alarm["monitor"])} for alarm in alarms]
        where = "evaluation"
        evaluations, broken = read_evaluations(folder, row)
        measured = [m for found in evaluations for m in found.measurements()]
        # what a row says of a file that is damaged now cannot be held against it
        measured += of_row(row, (*(found.file for found in evaluations), *broken), _norm(config))
        where = "diagnosis.json"
        diagnosis, undiagnosed = _diagnosis(folder / where)
        weights, unloaded = _weights(files.best)
        seed = row.get("seed", config.get("seed"))
        return Run(
            path=folder,
            called=str(folder),
            recipe=recipe,
            label=_label(row),
            campaign=None if "campaign" not in row else str(row["campaign"]),
            seed=None if seed is None else int(seed),
            config=config,
            environment=environment,
            source=source,
            metrics=tuple(lines),
            epochs=epochs,
            end=end,
            alarms=tuple(alarms),
            damaged=(*broken.values(), *undiagnosed, *unloaded),
            resumed=sum(line["kind"] == "resume" for line in lines),
            failure=str(row["reason"]) if row.get("status") == "failed" else None,
            evaluations=evaluations,
            measurements=tuple(measured),
            diagnosis=diagnosis,
            analyses=tuple(sorted(folder.glob(ANALYSES))),
            examples=files.examples if files.examples.is_file() else None,
            weights=weights,
        )
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{folder}: {where} cannot be read ({error.strerror}).") from None
    except _DAMAGED:
        raise InputError(f"{folder}: {where} is damaged{_REMEDY}.") from None


def _norm(config: Mapping[str, Any]) -> str:
    # settings that name none are of a version that had one alone
    return str(config.get("threat", {}).get("norm", "Linf"))


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is no such file."""
    if not path.is_file():
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError(path.name)
    return values


def _environment(path: Path) -> dict[str, Any]:
    values = _json(path)
    if not isinstance(values.get("packages", {}), dict):
        raise TypeError("packages")
    return values | {"hardware": hardware_text(values["hardware"])} if "hardware" in values else values


def _label(row: Mapping[str, Any]) -> str | None:
    """Return how a campaign calls a row; none but the recipe where it only lists the settings, as the report does."""
    if "label" not in row:
        return None
    label, recipe = str(row["label"]), str(row.get("recipe"))
    listed = row.get("settings") and label.startswith(f"{recipe} (") and label.endswith(")")
    return recipe if listed else label


def _weights(path: Path) -> tuple[WeightsInfo | None, tuple[str, ...]]:
    """Return what a weights file says of itself, or why it cannot be read."""
    if not path.is_file():
        return None, ()
    try:
        return read_info(path), ()
    except InputError as error:
        return None, (f"{path.name} cannot be read: {str(error).removeprefix(f'{path}: ').rstrip('.')}",)


def _row(path: Path) -> dict[str, Any]:
    """Return a row's record with everything checked that the report takes from it; an empty one where there is none."""
    row = _json(path)
    if row.get("status") == "done":
        _end([], row)
    for suite in row.get("suites", {}).values():
        int(suite["n"]), float(row["eps"]), suite["images"]
        [float(accuracy) for accuracy in suite["accuracies"].values()]
    int(row.get("seed") or 0)
    return row


def _settings(path: Path, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return recipe and settings, with those that the report computes with checked."""
    values = _json(path)
    recipe = str(values["recipe"] if values else row["recipe"])
    config = values["config"] if values else to_json(RECIPES[recipe]()) if recipe in RECIPES else {}
    if values:
        float(config["threat"]["eps"]), config["data"]["name"], config["model"]["name"]
        int(config["data"].get("train_limit") or 0)
        parts = [config.get(name, {}) for name in ("data", "defense", "model", "averaging")]
        if int(config["epochs"]) < 1 or not all(isinstance(part, dict) for part in parts):
            raise ValueError(path.name)
    return recipe, config


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the metrics; half a line at the end is of a run that is under way, or was cut off."""
    texts = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    if texts and not texts[-1].endswith("\n"):
        texts.pop()
    lines = [json.loads(text) for text in texts]
    if not all(isinstance(line, dict) and isinstance(line.get("kind"), str) for line in lines):
        raise TypeError(path.name)
    return lines


def _epoch(line: Mapping[str, Any]) -> Epoch:
    """Return an epoch with the accuracies of the weights that are shipped: the averaged ones where there are any."""
    validation = line["validation"]
    dict(line["train"]), line["lr"]  # the curves are drawn from these
    shipped = list(validation.values())[-1] if validation else {}

    def number(name: str) -> float | None:
        return None if shipped.get(name) is None else float(shipped[name])

    return Epoch(number=int(line["epoch"]), clean=number("clean"), fgsm=number("fgsm"), pgd=number("pgd"))


def _end(lines: list[dict[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the whole training, from the run's own record or else from its row's."""
    last = next((line for line in reversed(lines) if line["kind"] == "end"), None)
    names = ("epochs", "best_epoch", "forwards", "backwards")
    if last is not None:
        return {**{name: int(last[name]) for name in names}, "seconds": float(last["seconds"])}
    if row.get("status") == "done":
        return {**{name: int(row[name]) for name in names}, "seconds": float(row["seconds"]["training"])}
    return {}


def _diagnosis(path: Path) -> tuple[Diagnosis | None, tuple[str, ...]]:
    """Return the verdicts, or why they cannot be read."""
    try:
        values = _json(path)
        if not values:
            return None, ()
        names = ("check", "status", "threshold", "meaning")
        checks = tuple(Check(**{name: str(verdict[name]) for name in names}) for verdict in values["verdicts"])
        left_out = tuple(str(text) for text in values.get("left_out", []))
        n = int(values["evaluation"]["n"])
    except _DAMAGED:
        return None, (f"{path.name} is damaged{_REMEDY}",)
    return Diagnosis(file=path.name, n=n, checks=checks, left_out=left_out), ()
