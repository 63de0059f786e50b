"""The evaluations of a run: the one reader of their files, and the accuracies in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import torch

from nuat.attacks.catalogue import WORST_CASE, attack_name
from nuat.core.eps import threat_text
from nuat.core.intervals import wilson_interval
from nuat.core.threat import Norm
from nuat.errors import InputError
from nuat.evaluation.calibration import check_temperature
from nuat.evaluation.comparison import settings_key
from nuat.evaluation.results import FORMATS, Evaluation, caveats
from nuat.evaluation.union import part_within
from nuat.hardware import hardware_text
from nuat.records.json_values import Amount, Count, Fraction, Positive, check, read_object

SAME = 1e-6
"""Largest difference between a written accuracy and the accuracy of its verdicts."""


class _Result(TypedDict):
    name: str
    settings: dict[str, Any]
    correct: str
    accuracy: Fraction
    seconds: Amount | None
    forwards: Count | None
    backwards: Count | None
    shared_with: str | None
    predicted: NotRequired[list[Count]]
    confidence: NotRequired[list[Fraction]]


class _File(TypedDict):
    format: Literal[1, 2]
    eps: Amount
    n: Positive
    seed: Count
    batch_size: Positive
    hardware: str
    results: list[_Result]
    indices: Any
    # the first files had none of these
    norm: NotRequired[Norm]
    also: NotRequired[str]
    images_sha256: NotRequired[str | None]
    versions: NotRequired[dict[str, str | None]]
    warnings: NotRequired[list[str]]
    labels: NotRequired[list[Count]]
    classes: NotRequired[list[str]]
    temperature: NotRequired[Amount]


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """One accuracy."""

    attack: str
    """Name as for ``nuat evaluate``; or worst-case, over ``attacks``."""
    attacks: tuple[str, ...]
    """Attacks that a worst case is over; otherwise the attack alone."""
    correct: int
    """Images withstood."""
    n: int
    """Images attacked."""
    part: str
    """test or validation."""
    eps: float
    """Radius of the ball."""
    norm: Norm
    """Norm of the ball."""
    also: str | None = None
    """Further balls of a union."""
    file: str
    """Name of the file that it was read from."""
    evaluation: Evaluation | None
    """Evaluation with the verdict on each image; None: only the campaign row's record is left."""

    @property
    def threat(self) -> tuple[Norm, float, str | None]:
        """Norm and radius of the ball, and the further balls of a union."""
        return self.norm, self.eps, self.also

    @property
    def ball(self) -> str:
        """The same in words, without "eps"."""
        return threat_text(*self.threat).replace("eps ", "")

    @property
    def label(self) -> str:
        """Name of the attack for people; in a union with its norm."""
        return self._label(self.attack)

    @property
    def over(self) -> str:
        """Names for people of the attacks that a worst case is over, apart from clean."""
        return ", ".join(self._label(name) for name in self.attacks if name != "clean")

    def _label(self, attack: str) -> str:
        return attack_name(attack, None if self.also is None else self.norm)

    @property
    def settings(self) -> str:
        """Key of the attacks' settings, see ``settings_key``; empty: not recorded."""
        return "" if self.evaluation is None else settings_key(self.evaluation, self.attacks)

    @property
    def percent(self) -> float:
        """Accuracy in %."""
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval in %, over images drawn like these."""
        low, high = wilson_interval(self.correct, self.n)
        return 100 * low, 100 * high


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationFile:
    """One evaluation of a run."""

    file: str
    """Name of the file."""
    part: str
    """test or validation."""
    evaluation: Evaluation

    def measurements_within(self, norm: Norm, eps: float, also: str | None = None) -> tuple[Measurement, ...]:
        """Return the accuracies in a ball, or in a union of balls, as if it were alone; none if it was not attacked."""
        part = part_within(self.evaluation, norm, eps, also)
        return () if part is None else replace(self, evaluation=part).measurements()

    def measurements(self, *, by_ball: bool = False) -> tuple[Measurement, ...]:
        """Return an accuracy for each attack, and the worst case if there are several attacks.

        ``by_ball`` returns those in each ball of a union as if it were alone; none if there is one ball.
        """
        if by_ball:
            alone = (replace(self, evaluation=found) for found in self.evaluation.by_ball)
            return tuple(measured for one in alone for measured in one.measurements())
        found = self.evaluation
        rows: list[tuple[str, tuple[str, ...], int]] = []
        rows += [(result.name, (result.name,), int(result.correct.sum())) for result in found.results]
        names = tuple(result.name for result in found.results)
        if len([name for name in names if name != "clean"]) > 1:
            rows.append((WORST_CASE, names, int(found.worst_case.sum())))
        return tuple(
            Measurement(
                attack=name,
                attacks=attacks,
                correct=correct,
                n=found.n,
                part=self.part,
                eps=found.eps,
                norm=found.norm,
                also=found.also,
                file=self.file,
                evaluation=found,
            )
            for name, attacks, correct in rows
        )


def read_evaluation(path: Path) -> Evaluation:
    """Return the evaluation in a JSON file of ``nuat evaluate``, a run or a campaign, checked as a whole.

    Raises:
        InputError: no such file, or it holds no evaluation, or one whose parts contradict each other.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; 'nuat evaluate ... --json FILE' writes one.")
    try:
        values = read_object(path)
        newer = type(values.get("format")) is int and values["format"] > max(FORMATS)
        if not newer:
            check(_File, values, str(path))
            check_indices(values["indices"], values["n"])
            # files without a norm are of a version that had Linf alone
            found = Evaluation.from_json({"norm": "Linf", **values})
            _check_verdicts(found, values)
    except InputError as error:
        told = str(error).removeprefix(f"{path}: ").rstrip(".")
        raise InputError(f"{path}: does not hold an evaluation ({told}); remove it, or make it again.") from None
    if newer:
        raise InputError(f"{path}: evaluation format {values['format']}: this version reads {FORMATS}; update nuat.")
    return replace(found, hardware=hardware_text(found.hardware))


def find_evaluation(path: Path) -> Evaluation:
    """Return the evaluation in a JSON file, the one that ended the run in a folder, or the only one of that run.

    Raises:
        InputError: no such file, a folder of none or of several, or a damaged file.
    """
    if not path.is_dir():
        return read_evaluation(path)
    files = evaluation_files(path)
    if not files and (path / "config.json").is_file():
        raise InputError(f"{path}: holds no evaluation; 'nuat evaluate {path} --json FILE' writes one.")
    if not files:
        folders = (*path.glob("*/"), *path.glob("*/*/"))  # of a campaign, the runs are two levels below
        below = [str(file) for folder in sorted(folders) for file in evaluation_files(folder)]
        named = f"one of those below it: {', '.join(below[:4])}{', ...' * (len(below) > 4)}" if below else "its file"
        raise InputError(f"{path}: is no folder of a run and holds no evaluation; name {named}.")
    if len(files) > 1 and files[0].name != "evaluation.json":
        raise InputError(f"{path}: holds several evaluations; name one: {', '.join(map(str, files))}.")
    return read_evaluation(files[0])


def evaluation_files(folder: Path) -> list[Path]:
    """Return the evaluations' files in a run's folder, the one that ended the run first."""
    paths = sorted(path for path in folder.glob("evaluation*.json") if not path.name.endswith(".partial.json"))
    return sorted(paths, key=lambda path: path.name != "evaluation.json")


def read_evaluations(folder: Path, row: Mapping[str, Any]) -> tuple[tuple[EvaluationFile, ...], dict[str, str]]:
    """Return the evaluations in a run's folder, the one that ended the run first, and the files that are damaged.

    Args:
        folder: folder of the run.
        row: the run's record in a campaign, which says which images each suite attacked; empty outside a campaign.

    Returns:
        The evaluations; and for each damaged file, by its name, the reason, which begins with that name.
    """
    parts = {f"evaluation-{name}.json": str(suite["images"]) for name, suite in row.get("suites", {}).items()}
    found, broken = [], {}
    for path in evaluation_files(folder):
        try:
            evaluation = read_evaluation(path)
        except InputError as error:
            broken[path.name] = str(error).replace(str(path), path.name).rstrip(".")
        else:
            found.append(EvaluationFile(file=path.name, part=parts.get(path.name, "test"), evaluation=evaluation))
    return tuple(found), broken


def row_measurements(
    row: Mapping[str, Any], files: tuple[str, ...], norm: Norm, also: str | None = None
) -> tuple[Measurement, ...]:
    """Return the accuracies in a campaign row's record whose evaluation is not among ``files``.

    ``norm`` and ``also`` are those of the run. The record is one that ``nuat.records.runs.read_row`` has checked.
    """
    found = []
    for name, suite in row.get("suites", {}).items():
        if f"evaluation-{name}.json" in files:
            continue
        attacks = tuple(attack for attack in suite["accuracies"] if attack != WORST_CASE)
        several = len([attack for attack in attacks if attack != "clean"]) > 1
        for attack, accuracy in suite["accuracies"].items():
            if attack == WORST_CASE and not several:
                continue
            found.append(
                Measurement(
                    attack=attack,
                    attacks=attacks if attack == WORST_CASE else (attack,),
                    correct=round(float(accuracy) * int(suite["n"])),
                    n=int(suite["n"]),
                    part=str(suite["images"]),
                    eps=float(row["eps"]),
                    norm=norm,
                    also=also,
                    file="row.json",
                    evaluation=None,
                )
            )
    return tuple(found)


def caveats_by_file(measurements: Sequence[Measurement]) -> dict[str, tuple[str, ...]]:
    """Return the caveats of each evaluation by the name of its file, see ``nuat.evaluation.results.caveats``."""
    attacks: dict[str, list[str]] = {}
    for found in measurements:
        attacks.setdefault(found.file, []).append(found.attack)
    warnings = {found.file: found.evaluation.warnings for found in measurements if found.evaluation is not None}
    return {file: caveats(warnings.get(file, ()), names) for file, names in attacks.items()}


def check_indices(indices: object, n: int) -> None:
    """Refuse positions that are not n whole numbers; a range is counted before it is written out."""
    if isinstance(indices, str):
        first, _, last = indices.partition("-")
        there = int(last) - int(first) + 1 if f"{first}{last}".isdecimal() and len(indices) < 40 else 0
    else:
        there = len(check(list[Count], indices, "indices"))
    if there != n:
        raise InputError(f"its indices are not those of n={n} images.")


def _check_verdicts(found: Evaluation, values: Mapping[str, Any]) -> None:
    found.by_ball  # noqa: B018 - refuses further balls that are none
    names = [result.name for result in found.results]
    if not names or len(set(names)) < len(names) or WORST_CASE in names:
        raise InputError(f"expected results of different attacks; it has {', '.join(names) or 'none'}.")
    for result, written in zip(found.results, values["results"], strict=True):
        if len(result.correct) != found.n or not set(written["correct"]) <= {"0", "1"}:
            raise InputError(f"{result.name} has verdicts on other images than n={found.n}.")
        if abs(result.accuracy - written["accuracy"]) > SAME:
            raise InputError(f"the accuracy written for {result.name} is not that of its verdicts.")
    _check_answers(found)


def _check_answers(found: Evaluation) -> None:
    """Refuse labels and predictions that contradict the verdicts; files of older versions have neither."""
    labels = found.labels
    if (labels is None) != all(result.answers is None for result in found.results):
        raise InputError("it has labels without predictions, or predictions without labels.")
    if labels is None:
        return
    check_temperature(found.temperature, "temperature")
    if len(labels) != found.n or int(labels.max()) >= len(found.classes):
        raise InputError(f"its labels are not those of n={found.n} images of {len(found.classes)} classes.")
    for result in found.results:
        answers = result.answers
        if answers is not None and (
            not len(answers.predicted) == len(answers.confidence) == found.n
            or not torch.equal(answers.predicted == labels, result.correct)
        ):
            raise InputError(f"the predictions under {result.name} are not those of its verdicts.")
