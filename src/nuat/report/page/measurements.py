"""What a run's weights withstood, read from its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuat.attacks.catalogue import WORST_CASE as WORST_CASE
from nuat.evaluation.results import Evaluation, wilson_interval
from nuat.hardware import hardware_text

DASH = "\u2013"
"""Between the ends of an interval; alone: not measured."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """One accuracy."""

    attack: str
    """As for ``nuat evaluate``; or worst-case, over ``attacks``."""
    attacks: tuple[str, ...]
    """The attacks that it is the worst case of; of one attack that attack alone."""
    correct: int
    """Images withstood."""
    n: int
    """Images."""
    part: str
    """test or validation."""
    eps: float
    """Radius of the ball."""
    norm: str
    """Linf or L2."""
    file: str
    """Name of the file that it was read from."""
    evaluation: Evaluation | None
    """The evaluation with its verdicts per image; none where the row's record alone is left."""

    @property
    def percent(self) -> float:
        """Accuracy in %."""
        return 100 * self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval in %, over images drawn like these."""
        low, high = wilson_interval(self.correct, self.n)
        return 100 * low, 100 * high

    @property
    def interval_text(self) -> str:
        """The interval as people read it."""
        low, high = self.interval
        return f"{low:.1f}{DASH}{high:.1f}"


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationFile:
    """One evaluation of a run."""

    file: str
    """Its name."""
    part: str
    """test or validation."""
    evaluation: Evaluation

    def measurements(self) -> tuple[Measurement, ...]:
        """Return an accuracy for each attack, and the worst case where several attacks make one."""
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
                file=self.file,
                evaluation=found,
            )
            for name, attacks, correct in rows
        )


def read_evaluations(folder: Path, row: Mapping[str, Any]) -> tuple[tuple[EvaluationFile, ...], dict[str, str]]:
    """Return the evaluations in a run's folder, the one that ended the run first, and why others cannot be read.

    Args:
        folder: of the run.
        row: its record in a campaign, which says what images each suite attacked; empty without one.

    Returns:
        The evaluations; and of the files that are damaged, name to reason, which begins with the name.
    """
    paths = sorted(path for path in folder.glob("evaluation*.json") if not path.name.endswith(".partial.json"))
    paths.sort(key=lambda path: path.name != "evaluation.json")
    parts = {f"evaluation-{name}.json": str(suite["images"]) for name, suite in row.get("suites", {}).items()}
    found, broken = [], {}
    for path in paths:
        try:
            evaluation = _evaluation(path)
        except ValueError as error:
            broken[path.name] = f"{error}; remove it, or make it again"
        else:
            found.append(EvaluationFile(file=path.name, part=parts.get(path.name, "test"), evaluation=evaluation))
    return tuple(found), broken


def _evaluation(path: Path) -> Evaluation:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        # the first files said neither the versions nor the norm
        found = Evaluation.from_json({"versions": {}, "norm": "Linf", **values})
        written = {row["name"]: row["accuracy"] for row in values["results"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name}: does not hold an evaluation") from error
    if not found.results or found.n < 1 or any(len(result.correct) != found.n for result in found.results):
        raise ValueError(f"{path.name}: has verdicts on other images than it names")
    for result in found.results:
        if abs(result.accuracy - float(written[result.name])) > 1e-6:
            raise ValueError(f"{path.name}: the accuracy written for {result.name} is not that of its verdicts")
    return replace(found, hardware=hardware_text(found.hardware))


def of_row(row: Mapping[str, Any], files: tuple[str, ...], norm: str) -> tuple[Measurement, ...]:
    """Return the accuracies in a row's record whose evaluation is not among ``files``, within a ball of ``norm``."""
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
                    file="row.json",
                    evaluation=None,
                )
            )
    return tuple(found)
