"""Robust accuracy against the cost of training (Figure 3b): seconds, and images passed forward and backward.

Seconds depend on the machine, passes do not. A run that was not attacked, or whose cost was not kept, stays in the
record with none in that place.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nuat.analysis.record import Record
from nuat.analysis.runs import FinishedRun, check_same_data
from nuat.errors import InputError
from nuat.results import wilson_interval

STRONGEST_FIRST = ("autoattack", "autoattack-v1", "gama-100", "pgd-500", "pgd-100", "pgd-20", "worst-case")
"""The attack that is taken when none is named: the first of these that every run has, else the first that any has."""


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

    Raises:
        InputError: no run was attacked so, or they are of different data, eps or images.
    """
    check_same_data(runs)
    chosen = attack or _strongest(runs)
    measured = [run for run in runs if chosen in run.accuracies]
    if not measured:
        there = sorted({name for run in runs for name in run.accuracies})
        raise InputError(f"no run has {chosen!r}; measured were: {', '.join(there) or 'none'}. Give another --attack.")
    images = sorted({run.accuracies[chosen].images for run in measured})
    if len(images) > 1:
        raise InputError(f"{chosen} was measured on {' and '.join(images)} images; give runs of one kind.")
    return Cost(
        attack=chosen,
        images=images[0],
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


def _strongest(runs: Sequence[FinishedRun]) -> str:
    attacked = [run for run in runs if run.accuracies]
    for every in (all, any):
        for name in STRONGEST_FIRST:
            if attacked and every(name in run.accuracies for run in attacked):
                return name
    there = sorted({name for run in runs for name in run.accuracies})
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
    measured = [(p.accuracy, p.n) for p in points if p.accuracy is not None and p.n is not None]
    accuracy, interval = None, None
    if measured:
        accuracy = statistics.fmean(value for value, _ in measured)
        value, n = measured[0]
        spread = statistics.stdev(value for value, _ in measured) if len(measured) > 1 else 0.0
        several = (max(0.0, accuracy - spread), min(1.0, accuracy + spread))
        interval = several if len(measured) > 1 else wilson_interval(round(value * n), n)
    return Method(
        name=name,
        seeds=len(points),
        accuracy=accuracy,
        interval=interval,
        seconds=_mean([p.seconds for p in points]),
        passes=_mean([p.passes for p in points]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
