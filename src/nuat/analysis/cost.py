"""Robust accuracy against the cost of training (Figure 3b): seconds, and images passed forward and backward.

Seconds depend on the machine, passes do not. A run that was not attacked, or whose cost was not kept, stays in the
record with none in that place.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from nuat.analysis.record import Record
from nuat.analysis.runs import WORST_CASE, FinishedRun, check_same_data
from nuat.attacks.catalogue import attack_strength
from nuat.errors import InputError
from nuat.evaluation.results import wilson_interval

_USUAL = ("pgd-20", "pgd-100", "pgd-500", "gama-100", "autoattack-v1", "autoattack", WORST_CASE)
STRONGEST_FIRST = tuple(sorted(_USUAL, key=attack_strength, reverse=True))
"""The attack that is taken when none is named: the first of these that every run has, else every method, else any.

A worst case is at most each of the attacks that it is over, so it comes before all but AutoAttack; it counts only where
it is over the same attacks in all runs.
"""


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """One run."""

    method: str
    """Runs of one method differ in their seeds."""
    seed: int | None
    """Of the training."""
    accuracy: float | None
    """Under the record's attack, in [0, 1]; none: not measured."""
    n: int | None
    """Images attacked."""
    seconds: float | None
    """Of training."""
    passes: int | None
    """Images forward plus images backward in training."""
    hardware: str | None
    """What it was trained on."""


@dataclass(frozen=True)
class Method:
    """Runs of one method together."""

    name: str
    seeds: int
    """Runs that the numbers are of: those that were attacked, or all where none was."""
    runs: int
    """All runs of the method."""
    accuracy: float | None
    """Mean over the seeds."""
    interval: tuple[float, float] | None
    """One seed: 95 % over images drawn like these. Several: the mean -+ their standard deviation."""
    seconds: float | None
    """Mean over the seeds."""
    passes: float | None
    """Mean over the seeds."""


@dataclass(frozen=True, kw_only=True)
class Cost(Record):
    """Runs under one attack."""

    kind: ClassVar[str] = "cost"

    attack: str
    """Whose accuracy it is."""
    images: str
    """test or validation."""
    eps: float | None
    """Radius of the Linf ball."""
    points: tuple[CostPoint, ...]
    """A run each."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """The points, those of one method together, in their order."""
        names = dict.fromkeys(point.method for point in self.points)
        return tuple(_method(name, [p for p in self.points if p.method == name]) for name in names)


def cost(runs: Sequence[FinishedRun], attack: str | None = None) -> Cost:
    """Return the record of ``runs`` under ``attack``; none: see ``STRONGEST_FIRST``.

    Runs that were attacked on validation images alone, such as those of a search for settings, are left out beside
    runs that were attacked on test images.

    Raises:
        InputError: no run was attacked so, or they are of different data, networks or balls.
    """
    check_same_data(runs)
    runs = of_one_part(runs)
    chosen = attack or strongest(runs)
    measured = [run for run in runs if chosen in run.accuracies]
    if not measured:
        there = sorted({name for run in runs for name in run.accuracies})
        raise InputError(f"no run has {chosen!r}; measured were: {', '.join(there) or 'none'}. Give another --attack.")
    check_same_line_up(runs, chosen)
    return Cost(
        attack=chosen,
        images=measured[0].accuracies[chosen].images,
        eps=next((run.eps for run in runs if run.eps is not None), None),
        points=tuple(_point(run, chosen) for run in runs),
    )


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return the positions, by rising cost, that no other beats: none is as cheap and better, or cheaper and as good.

    Of equal points the first is taken.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i], i))
    front: list[int] = []
    for i in order:
        if not front or values[i] > values[front[-1]]:
            front.append(i)
    return front


def of_one_part(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs but those attacked on validation images alone, where others were attacked on test images."""
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
        InputError: two that differ are named.
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


def strongest(runs: Sequence[FinishedRun]) -> str:
    """Return the attack that is taken when none is named, see ``STRONGEST_FIRST``.

    Raises:
        InputError: no run has one of them.
    """
    attacked = [run for run in runs if run.accuracies]
    methods = {run.name: [other for other in attacked if other.name == run.name] for run in attacked}

    def every_run(name: str) -> bool:
        return all(name in run.accuracies for run in attacked)

    def every_method(name: str) -> bool:
        return all(any(name in run.accuracies for run in found) for found in methods.values())

    for has in (every_run, every_method, lambda _: True):
        for name in STRONGEST_FIRST:
            over = {frozenset(run.accuracies[name].attacks) for run in attacked if name in run.accuracies}
            if len(over) == 1 and has(name):
                return name
    there = sorted({name for run in runs for name in run.accuracies} - {WORST_CASE})
    raise InputError(
        f"none of the runs was attacked in a usual way ({', '.join(there) or 'no attack'}); give --attack."
    )


def _point(run: FinishedRun, attack: str) -> CostPoint:
    found = run.accuracies.get(attack)
    counted = run.forwards is not None and run.backwards is not None
    return CostPoint(
        method=run.name,
        seed=run.seed,
        accuracy=found.value if found else None,
        n=found.n if found else None,
        seconds=run.seconds,
        passes=(run.forwards or 0) + (run.backwards or 0) if counted else None,
        hardware=run.hardware,
    )


def _method(name: str, points: Sequence[CostPoint]) -> Method:
    attacked = [point for point in points if point.accuracy is not None and point.n is not None]
    measured = [(p.accuracy, p.n) for p in attacked if p.accuracy is not None and p.n is not None]
    accuracy, interval = None, None
    if measured:
        accuracy = statistics.fmean(value for value, _ in measured)
        value, n = measured[0]
        spread = statistics.stdev(value for value, _ in measured) if len(measured) > 1 else 0.0
        several = (max(0.0, accuracy - spread), min(1.0, accuracy + spread))
        interval = several if len(measured) > 1 else wilson_interval(round(value * n), n)
    # cost and accuracy of the same runs, or a point of the figure is of none
    counted = attacked or points
    return Method(
        name=name,
        seeds=len(counted),
        runs=len(points),
        accuracy=accuracy,
        interval=interval,
        seconds=_mean([p.seconds for p in counted]),
        passes=_mean([p.passes for p in counted]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
