"""The one reader of runs: a folder's records, read and checked as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nuat.core.threat import Norm
from nuat.errors import InputError, printable
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.results import caveats
from nuat.hardware import hardware_text
from nuat.recipes import RECIPES
from nuat.records.checkpoints import WeightsInfo, read_info
from nuat.records.corruptions import read_all_corruptions
from nuat.records.diagnoses import Diagnosis, read_diagnosis
from nuat.records.evaluations import (
    EvaluationFile,
    Measurement,
    caveats_by_file,
    read_evaluations,
    row_measurements,
)
from nuat.records.folder import RunFolder
from nuat.records.json_values import check, read_object
from nuat.records.settings import completed, images_name, to_json
from nuat.records.shapes import (
    ConfigFileShape,
    DoneRowShape,
    EnvironmentShape,
    FailedRowShape,
    RowShape,
    SplitShape,
)

ROW = "row.json"
"""File of a campaign row's record."""
ANALYSES = "analysis-*.json"
"""Files of the records of ``nuat analyse``."""
_REMEDY = "remove it, or make it again"


@dataclass(frozen=True, kw_only=True)
class EpochAccuracies:
    """Validation accuracies of an epoch, in [0, 1]; None: not measured."""

    number: int
    clean: float | None
    fgsm: float | None
    pgd: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """Everything that a run's folder records."""

    path: Path
    called: str
    """Its path; of ``find_runs``: its name for people, printable and without its place on the disk."""
    recipe: str
    label: str | None
    """Name of the method in its campaign; None: the recipe's."""
    campaign: str | None
    """Name of its campaign, if it is a row of one."""
    seed: int | None
    """Seed of the training; None: not recorded."""
    config: Mapping[str, Any]
    """Settings, as JSON values. Of a row that failed before it had any: its recipe's; empty: unknown."""
    norm: Norm
    """Norm of the ball that it was trained for."""
    eps: float | None
    """Radius of that ball; None: not recorded."""
    environment: Mapping[str, Any]
    """Versions, hardware and command; empty: not recorded."""
    source: Mapping[str, Any]
    """Source and number of its images; empty: not recorded."""
    metrics: tuple[Mapping[str, Any], ...]
    """Lines of its metrics, as JSON values."""
    epochs: tuple[EpochAccuracies, ...]
    end: Mapping[str, Any]
    """Seconds, passes and best epoch of the whole training; empty: it has not ended."""
    alarms: tuple[Mapping[str, Any], ...]
    """Alarms of its monitors, with ``epoch`` and ``monitor``."""
    damaged: tuple[str, ...]
    """Records that could not be read and are left out, each with the reason."""
    resumed: int
    """Number of times that it went on after it was cut off."""
    failure: str | None
    """Reason for which its campaign gave it up, if it did."""
    failed_suites: Mapping[str, str]
    """Suites of its campaign that were added after it was done and failed on it, each with the reason."""
    evaluations: tuple[EvaluationFile, ...]
    measurements: tuple[Measurement, ...]
    """Accuracies of every evaluation."""
    diagnosis: Diagnosis | None
    analyses: tuple[Path, ...]
    """Files of the records of ``nuat analyse``."""
    examples: Path | None
    """Picture of images before and after an attack."""
    weights: WeightsInfo | None
    """Metadata of the best weights, if they are there."""
    also: str | None = None
    """Further balls that it was trained for, such as L2:0.5,L1:12. None: one ball."""
    trained_here: bool = True
    """Whether nuat trained it; of other models only the results are known."""
    corruptions: Mapping[str, CorruptionResults] = field(default_factory=dict)
    """Results on corrupted images, by the names of their files."""

    @property
    def threat(self) -> tuple[Norm, float | None, str | None]:
        """Norm and radius of the ball that it was trained for, and the further balls of a union."""
        return self.norm, self.eps, self.also

    @cached_property
    def own_measurements(self) -> tuple[Measurement, ...]:
        """Accuracies in the ball that it was trained for.

        Of an evaluation in more balls, that ball's part counts as if it were alone.
        """
        own = tuple(found for found in self.measurements if found.threat == self.threat)
        if self.eps is None:
            return own
        # neither one ball nor the same union
        wider = (file for file in self.evaluations if file.evaluation.also not in (None, self.also))
        return (*own, *(found for file in wider for found in file.measurements_within(self.norm, self.eps, self.also)))

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """Caveats of its results, each once, beginning with the names of the files that have it."""
        files: dict[str, list[str]] = {}
        corrupted = {file: caveats(found.warnings) for file, found in self.corruptions.items()}
        for file, texts in (caveats_by_file(self.measurements) | corrupted).items():
            for text in texts:
                files.setdefault(text, []).append(file)
        return tuple(f"{', '.join(names)}: {text}" for text, names in files.items())

    @property
    def data(self) -> str | None:
        """Name of its data set, or of the user's file or folder; None: not recorded."""
        if not self.trained_here:
            return "images not recorded"
        if not self.config:
            return None
        path = self.config["data"].get("path")
        if not path:
            return str(self.config["data"]["name"])
        name = images_name(path)
        return name.removesuffix(Path(name).suffix)

    @property
    def network(self) -> str | None:
        """Name of the network, with a width or another activation that the settings give; None: not recorded."""
        if not self.config:
            return None
        width, activation = self.config["model"].get("width"), self.config["model"].get("activation", "relu")
        sized = str(self.config["model"]["name"]) + ("" if width is None else f" of width {width}")
        return sized if activation == "relu" else f"{sized} with {activation}"

    @property
    def averaging(self) -> str | None:
        """The decay of the average that its weights are, in words; None: they are none, or it is not recorded."""
        tau = (self.config.get("averaging") or {}).get("tau")
        if not isinstance(tau, list):
            return None if tau is None else f"decay {tau}"
        several = ", ".join(map(str, tau))
        chosen = None if self.weights is None else self.weights.tau
        return f"the best of decays {several}" if chosen is None else f"decay {chosen}, the best of {several}"

    @property
    def validate_attack(self) -> str:
        """Name of the attack of its validation."""
        return str(self.config.get("validate_attack", "pgd-7"))

    @property
    def planned_epochs(self) -> int | None:
        """Epochs that its settings ask for."""
        epochs: int | None = self.config.get("epochs")
        return epochs

    @property
    def state(self) -> str:
        """State of its training, in words: "done", "failed", or the part that is missing."""
        if self.failure is not None:
            return "failed"
        if self.end or not self.trained_here:
            return "done"
        stop = next((alarm for alarm in self.alarms if alarm.get("stop")), None)
        if stop is not None:
            return f"ended by an alarm in epoch {stop['epoch']}"
        return f"not finished: {len(self.epochs)} of {self.planned_epochs} epochs"


def is_run(folder: Path) -> bool:
    """Return whether a folder is one that a run or a campaign's row writes."""
    return (folder / "config.json").is_file() or (folder / ROW).is_file()


def read_run(folder: Path) -> RunRecord:
    """Return the run in a folder.

    A damaged evaluation, diagnosis or weights file is left out and named in ``damaged``; the rest is still of use.

    Raises:
        InputError: it is not the folder of a run, or another record in it is damaged; the file is named.
    """
    if not is_run(folder):
        raise InputError(f"{folder}: is not the folder of a run; it holds no config.json.")
    files = RunFolder(folder)
    try:
        row = read_row(folder / ROW) if (folder / ROW).is_file() else {}
        recipe, config = _settings(files.config, row)
        environment = _optional(files.environment, EnvironmentShape) or _row_environment(row)
        source = _optional(files.split, SplitShape)
        lines = files.read_metrics()
    except InputError as error:
        raise InputError(f"{folder}: {str(error).removeprefix(f'{folder}/').rstrip('.')}; {_REMEDY}.") from None
    if "hardware" in environment:
        environment["hardware"] = hardware_text(environment["hardware"])
    norm, eps, also = _ball(config, row)
    evaluations, broken = read_evaluations(folder, row)
    measured = [m for found in evaluations for m in found.measurements()]
    # a row's accuracies do not stand in for a file that is damaged now
    measured += row_measurements(row, (*(found.file for found in evaluations), *broken), norm, also)
    corruptions, corrupt = read_all_corruptions(folder)
    diagnosis, undiagnosed = read_diagnosis(folder / "diagnosis.json")
    weights, unloaded = _weights(files.best)
    return RunRecord(
        path=folder,
        called=str(folder),
        recipe=recipe,
        label=_label(row),
        campaign=row.get("campaign"),
        seed=row.get("seed", config.get("seed")),
        config=config,
        norm=norm,
        eps=eps,
        also=also,
        environment=environment,
        source={name: value for name, value in source.items() if name != "validation_indices"},
        metrics=tuple(lines),
        epochs=tuple(_epoch(line) for line in lines if line["kind"] == "epoch"),
        end=_end(lines, row),
        alarms=tuple([line for line in lines if line["kind"] == "alarm"] or row.get("alarms", [])),
        damaged=(*broken.values(), *corrupt.values(), *undiagnosed, *unloaded),
        resumed=sum(line["kind"] == "resume" for line in lines),
        failure=row["reason"] if row.get("status") == "failed" else None,
        failed_suites=row.get("failed_suites", {}),
        evaluations=evaluations,
        measurements=tuple(measured),
        diagnosis=diagnosis,
        analyses=tuple(sorted(folder.glob(ANALYSES))),
        examples=files.examples if files.examples.is_file() else None,
        weights=weights,
        corruptions=corruptions,
    )


def read_row(path: Path) -> dict[str, Any]:
    """Return the record of a campaign's row.

    Raises:
        InputError: no such file, or it is damaged.
    """
    row = read_object(path)
    check(RowShape, row, str(path))
    kinds = {"done": DoneRowShape, "failed": FailedRowShape}
    if row.get("status") in kinds:
        check(kinds[row["status"]], row, str(path))
    elif row.get("suites"):
        check(DoneRowShape, row, str(path))
    return row


def _settings(path: Path, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the recipe and its settings; without a file, the settings of the row's recipe if nuat knows it."""
    if path.is_file():
        values = read_object(path)
        check(ConfigFileShape, values, str(path))
        recipe, config = values["recipe"], completed(values["config"])
    else:
        recipe = row["recipe"]
        config = to_json(RECIPES[recipe]()) if recipe in RECIPES else {}
    return recipe, config


def _ball(config: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Norm, float | None, str | None]:
    """Return norm and radius that a run was trained for, and further balls; None: no record says, or there are none."""
    if config:
        return config["threat"]["norm"], config["threat"]["eps"], config["threat"].get("also")
    return "Linf", row.get("eps"), None


def _optional(path: Path, shape: type) -> dict[str, Any]:
    """Return the record in a file, checked; an empty one if there is no file."""
    if not path.is_file():
        return {}
    values: dict[str, Any] = check(shape, read_object(path), str(path))
    return values


def _row_environment(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment from a row's record, for a run that kept no record of its own."""
    return {name: row[name] for name in ("hardware", "nuat", "git", "packages") if row.get(name) is not None}


def _label(row: Mapping[str, Any]) -> str | None:
    """Return a row's label; None if it only lists the settings after the recipe, as the report does itself."""
    label: str | None = row.get("label")
    if label is None:
        return None
    listed = row.get("settings") and label.startswith(f"{row['recipe']} (") and label.endswith(")")
    return str(row["recipe"]) if listed else label


def _weights(path: Path) -> tuple[WeightsInfo | None, tuple[str, ...]]:
    """Return the metadata of a weights file, or the reason why it cannot be read."""
    if not path.is_file():
        return None, ()
    try:
        return read_info(path), ()
    except InputError as error:
        told = printable(str(error).removeprefix(f"{path}: ").rstrip("."))
        return None, (f"{path.name} cannot be read: {told}",)


def _epoch(line: Mapping[str, Any]) -> EpochAccuracies:
    """Return an epoch with the accuracies of the weights that are shipped: the averaged ones if there are any."""
    shipped = list(line["validation"].values())[-1] if line["validation"] else {}
    return EpochAccuracies(number=line["epoch"], **{name: shipped.get(name) for name in ("clean", "fgsm", "pgd")})


def _end(lines: list[dict[str, Any]], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the whole training, from the run's own record or else from its row's."""
    names = ("epochs", "best_epoch", "forwards", "backwards")
    last = next((line for line in reversed(lines) if line["kind"] == "end"), None)
    if last is not None:
        return {**{name: last[name] for name in names}, "seconds": float(last["seconds"])}
    if row.get("status") == "done":
        return {**{name: row[name] for name in names}, "seconds": float(row["seconds"]["training"])}
    return {}
