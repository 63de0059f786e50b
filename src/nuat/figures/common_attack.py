"""Attack under which several runs are compared, and the runs that it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nuat.attacks.catalogue import WORST_CASE, attack_name, attack_strength
from nuat.core.eps import threat_text
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.figures.figure_record import FigureRecord
from nuat.records.finished_runs import Accuracy, FinishedRun

_USUAL = ("pgd-20", "pgd-100", "pgd-500", "gama-100", "autoattack-v1", "autoattack", WORST_CASE)
STRONGEST_FIRST = tuple(sorted(_USUAL, key=attack_strength, reverse=True))
"""Attacks by strength. Where the user names none, the first that every run has counts, else every method, else any.

A worst case is at most as high as each attack that it is over, so it comes before all but AutoAttack. It counts only
where it is over the same attacks in all runs. In a union it comes first: an attack is in one of the balls alone.
"""


@dataclass(frozen=True, kw_only=True)
class RunsUnderAttack(FigureRecord):
    """Base of the records of finished runs under one attack."""

    attack: str
    """Attack of the accuracies."""
    images: str
    """test or validation."""
    eps: float | None
    """Radius of the ball; None: not recorded."""
    norm: str = "Linf"
    """Norm of the ball."""
    also: str | None = None
    """Further balls of a union."""

    @property
    def ball(self) -> str:
        """The ball in words, after a comma; empty: not recorded."""
        return "" if self.eps is None else f", {threat_text(self.norm, self.eps, self.also)}"

    def shares_setting(self, other: "RunsUnderAttack") -> bool:
        """Return whether accuracies of both are under the same attack in the same ball, on images of the same kind."""
        names = ("attack", "images", "eps", "norm", "also")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def setting_of(runs: Sequence[FinishedRun], attack: str) -> dict[str, Any]:
    """Return the fields of ``RunsUnderAttack`` of runs of one ball, some of which have the attack."""
    images = next(run.accuracies[attack].images for run in runs if attack in run.accuracies)
    first = next((run for run in runs if run.eps is not None), runs[0])
    return {"attack": attack, "images": images, "eps": first.eps, "norm": first.norm, "also": first.also}


def of_one_part(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs without those that were attacked on validation images alone, if others have test images."""
    tested = [run for run in runs if any(found.images == "test" for found in run.accuracies.values())]
    if not tested:
        return list(runs)
    return [
        replace(run, accuracies={name: found for name, found in run.accuracies.items() if found.images == "test"})
        for run in runs
        if run in tested or not run.accuracies
    ]


def check_same_line_up(runs: Sequence[FinishedRun], attack: str) -> None:
    """Refuse worst cases over different attacks.

    Raises:
        InputError: two runs differ; both are named.
    """
    told: dict[frozenset[str], FinishedRun] = {}
    for run in runs:
        if attack in run.accuracies:
            told.setdefault(frozenset(run.accuracies[attack].attacks), run)
    if len(told) > 1:
        (a, one), (b, other) = list(told.items())[:2]
        raise InputError(
            f"the worst cases of {one.folder} and {other.folder} are over different attacks ({', '.join(sorted(a))}; "
            f"{', '.join(sorted(b))}); give an --attack that both have."
        )


def strongest_attack(runs: Sequence[FinishedRun]) -> str:
    """Return the attack that counts where the user names none, see ``STRONGEST_FIRST``.

    Raises:
        InputError: no run has any of them.
    """
    attacked = [run for run in runs if run.accuracies]
    methods = {run.name: [other for other in attacked if other.name == run.name] for run in attacked}

    def every_run(name: str) -> bool:
        return all(name in run.accuracies for run in attacked)

    def every_method(name: str) -> bool:
        return all(any(name in run.accuracies for run in found) for found in methods.values())

    union = any(run.also is not None for run in runs)
    for has in (every_run, every_method, lambda _: True):
        for name in dict.fromkeys((*([WORST_CASE] if union else []), *STRONGEST_FIRST)):
            over = {frozenset(run.accuracies[name].attacks) for run in attacked if name in run.accuracies}
            if len(over) == 1 and has(name):
                return name
    there = sorted({name for run in runs for name in run.accuracies} - {WORST_CASE})
    raise InputError(
        f"none of the runs was attacked in a usual way ({', '.join(there) or 'no attack'}); give --attack."
    )


def answered(runs: Sequence[FinishedRun], attack: str | None) -> tuple[str, list[tuple[str, Evaluation]]]:
    """Return the attack, and the evaluations that have it and the answer on each image, by the names of their runs.

    None: the strongest attack of the runs that have kept answers.

    Raises:
        InputError: no run has it, or none has kept answers: evaluations of older versions have not.
    """
    kept = [
        replace(run, accuracies={name: found for name, found in run.accuracies.items() if _answers(found, name)})
        for run in of_one_part(runs)
    ]
    if not any(run.accuracies for run in kept):
        raise InputError("none of the runs has an evaluation that kept the predictions; evaluate one again.")
    chosen = attack or strongest_attack(kept)
    check_same_line_up(kept, chosen)
    found = [(run, evaluation) for run in kept if (evaluation := _evaluation(run, chosen)) is not None]
    if not found:
        there = sorted({name for run in kept for name in run.accuracies})
        raise InputError(
            f"no run has {chosen!r} with predictions; there are: {', '.join(there)}. Give another --attack."
        )
    names = [run.name for run, _ in found]
    return chosen, [
        (run.name if names.count(run.name) == 1 else f"{run.name}, seed {run.seed}", evaluation)
        for run, evaluation in found
    ]


def _answers(found: Accuracy, attack: str) -> bool:
    return found.evaluation is not None and found.evaluation.answers(attack) is not None


def _evaluation(run: FinishedRun, attack: str) -> Evaluation | None:
    return run.accuracies[attack].evaluation if attack in run.accuracies else None


def ball_text(evaluation: Evaluation) -> str:
    """Return the norm and radius of an evaluation's ball, in words."""
    return threat_text(evaluation.norm, evaluation.eps, evaluation.also)


def attack_clause(attack: str) -> str:
    """Return the words that follow "accuracy" on an axis, such as "under GAMA-PGD-100"."""
    if attack == "clean":
        return "on clean images"
    return "in the worst case" if attack == WORST_CASE else f"under {attack_name(attack)}"
