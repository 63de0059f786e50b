"""Clean and robust accuracy against lambda, which trades one for the other (section 5.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nuat.analysis.cost import check_same_line_up, of_one_part, strongest
from nuat.analysis.record import Record
from nuat.analysis.runs import FinishedRun, check_same_data
from nuat.analysis.settings import differences
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LambdaPoint:
    """One run."""

    series: str
    """The settings besides lambda and seed in which the runs differ; empty where there are none."""
    seed: int | None
    """Of the training."""
    lam: float
    """Lambda in the last epoch: the end of its ramp."""
    clean: float | None
    """Accuracy on clean images, in [0, 1]; none: not measured."""
    robust: float | None
    """Under the record's attack; none: not measured."""
    n_clean: int | None
    """Images of the clean accuracy."""
    n_robust: int | None
    """Images of the robust accuracy."""


@dataclass(frozen=True, kw_only=True)
class LambdaSweep(Record):
    """Runs of NuAT under one attack."""

    kind: ClassVar[str] = "lambda-sweep"

    attack: str
    """Of the robust accuracy."""
    images: str
    """test or validation."""
    eps: float | None
    """Radius of the Linf ball."""
    points: tuple[LambdaPoint, ...]
    """A run each, by series, then lambda."""


def has_lambda(run: FinishedRun) -> bool:
    """Return whether a run's defense weighs the nuclear norm with lambda, and its record tells the value."""
    return str(_defense(run).get("class", "")).startswith("NuAT") and final_lambda(run) is not None


def final_lambda(run: FinishedRun) -> float | None:
    """Return lambda in the last epoch; none where the metrics do not hold it."""
    values = [line["train"].get("lam") for line in run.metrics if line.get("kind") == "epoch" and "train" in line]
    return float(values[-1]) if values and values[-1] is not None else None


def lambda_sweep(runs: Sequence[FinishedRun], attack: str | None = None) -> LambdaSweep:
    """Return the record of ``runs``, all with a lambda, under ``attack``; none: the strongest that every run has.

    Raises:
        InputError: no runs, one without a lambda, of different data, or not attacked.
    """
    for run in runs:
        if not has_lambda(run):
            kind = _defense(run).get("class", "unknown")
            raise InputError(f"{run.folder}: no run of NuAT with its metrics (defense {kind}), so it has no lambda.")
    if not runs:
        raise InputError("no run of NuAT with its metrics was given, so there is no lambda to plot.")
    check_same_data(runs)
    runs = of_one_part(runs)
    chosen = attack or strongest(runs)
    measured = [run for run in runs if chosen in run.accuracies]
    if not measured:
        raise InputError(f"the runs have no robust accuracy {chosen}; give another --attack.")
    check_same_line_up(runs, chosen)
    names = differences([run.config for run in runs], ("defense.lam.",))
    points = [_point(run, name, chosen) for run, name in zip(runs, names, strict=True)]
    return LambdaSweep(
        attack=chosen,
        images=measured[0].accuracies[chosen].images,
        eps=next((run.eps for run in runs if run.eps is not None), None),
        points=tuple(sorted(points, key=lambda point: (point.series, point.lam, point.seed or 0))),
    )


def _defense(run: FinishedRun) -> Mapping[str, Any]:
    found = run.config.get("defense", {})
    return found if isinstance(found, Mapping) else {}


def _point(run: FinishedRun, name: str, attack: str) -> LambdaPoint:
    clean, robust, lam = run.accuracies.get("clean"), run.accuracies.get(attack), final_lambda(run)
    assert lam is not None  # has_lambda was asked
    return LambdaPoint(
        series=name,
        seed=run.seed,
        lam=lam,
        clean=clean.value if clean else None,
        robust=robust.value if robust else None,
        n_clean=clean.n if clean else None,
        n_robust=robust.n if robust else None,
    )
