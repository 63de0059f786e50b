"""Finished runs as figures compare them: a method's name, one accuracy an attack, and the cost of training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuat.core.eps import threat_text
from nuat.errors import InputError, printable
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.results import Evaluation
from nuat.records.corruptions import best_of
from nuat.records.elsewhere import read_run_or_results
from nuat.records.evaluations import Measurement
from nuat.records.methods import differences
from nuat.records.runs import ROW, RunRecord, is_run, read_run
from nuat.records.search import runs_of


@dataclass(frozen=True)
class Accuracy:
    """Accuracy under one attack."""

    value: float
    """Fraction of the images, in [0, 1]."""
    n: int
    """Images attacked."""
    images: str
    """test or validation."""
    attacks: tuple[str, ...]
    """Attacks that a worst case is over; otherwise the attack alone."""
    evaluation: Evaluation | None = None
    """Evaluation with the verdict on each image. None: only the accuracy is left."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with its evaluations."""

    folder: Path
    """Folder of the run."""
    name: str
    """Name of the method: its label in a campaign, else the recipe. Runs of one name differ in their seeds alone."""
    seed: int | None
    """Seed of the training; None: not recorded."""
    config: Mapping[str, Any]
    """Settings, as JSON values."""
    metrics: Sequence[Mapping[str, Any]]
    """Lines of its metrics; empty: they were not kept."""
    accuracies: Mapping[str, Accuracy]
    """Accuracy by attack in the ball of its training: on test images if there are any, and on the most of them."""
    norm: str
    """Norm of that ball."""
    eps: float | None
    """Radius of that ball; None: not recorded."""
    also: str | None
    """Further balls of its training; None: one."""
    hardware: str | None
    """Machine that it was trained on; None: not recorded."""
    seconds: float | None
    """Seconds of training; None: not recorded, as are the passes."""
    forwards: int | None
    """Images forward in training."""
    backwards: int | None
    """Images backward in training."""

    data: str | None
    """Name of the images; None: not recorded."""
    network: str | None
    """Name and width of the model; None: not recorded."""
    corruptions: CorruptionResults | None = None
    """Results on corrupted images; None: there are none."""


def finished_runs(paths: Sequence[Path]) -> tuple[FinishedRun, ...]:
    """Return the runs that ``paths`` name: folders of runs or of campaigns, row.json files, or files of results.

    The results of a model from elsewhere count as a run. Of a folder that holds several runs those are taken whose
    training ended and that no campaign gave up.

    Raises:
        InputError: no path, one that names no run, or a record that cannot be read.
    """
    if not paths:
        raise InputError("name at least one run, campaign folder, row.json or evaluation's JSON file.")
    found: dict[Path, FinishedRun] = {}
    for path in paths:
        for run in _runs_of(path):
            found.setdefault(run.folder.resolve(), run)
    return _distinct(list(found.values()))


def check_same_data(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of different images, networks or balls: their accuracies do not belong in one figure.

    Raises:
        InputError: two that differ are named.
    """
    for name in ("data", "network", "norm", "eps", "also"):
        firsts: dict[object, FinishedRun] = {}
        for run in runs:
            if getattr(run, name) is not None:
                firsts.setdefault(getattr(run, name), run)
        if len(firsts) > 1:
            (a, one), (b, other) = list(firsts.items())[:2]
            raise InputError(
                f"{one.folder} and {other.folder} have different {name}: {a} and {b}; name runs that share it."
            )


def _runs_of(path: Path) -> list[FinishedRun]:
    if path.is_file():
        if path.name != ROW:
            folder = path.parent
            return [_finished(read_run_or_results(folder), path)]
        path = path.parent
    if not path.is_dir():
        raise InputError(f"{path}: no such run or file.")
    if is_run(path):
        run = read_run(path)
        if run.failure is not None:
            raise InputError(f"{path}: this row is not done ({run.failure}).")
        return [_finished(run)]
    folders, _ = runs_of(path)
    if not folders:
        raise InputError(f"{path}: neither the folder of a run nor that of a campaign (no config.json, no row.json).")
    found = [read_run_or_results(folder) for folder in folders]
    ended = [run for run in found if not run.trained_here or (run.end and run.failure is None)]
    if not ended:
        raise InputError(f"{path}: none of its {len(folders)} runs is done.")
    return [_finished(run) for run in ended]


def _finished(run: RunRecord, only: Path | None = None) -> FinishedRun:
    """Return a run with all its evaluations, or with those of one file."""
    broken = next((reason for reason in run.damaged if reason.startswith(("evaluation", "corruptions"))), None)
    if broken is not None:
        raise InputError(f"{run.path / broken}.")
    measured = [found for found in run.measurements if only is None or found.file == only.name]
    corrupted = best_of(run.corruptions) if only is None else run.corruptions.get(only.name)
    if only is not None and not measured and corrupted is None:
        raise InputError(f"{only}: is no evaluation of the run in {run.path}.")
    own = [found for found in run.own_measurements if only is None or found.file == only.name]
    if only is not None and measured and not own:
        raise InputError(
            f"{only}: attacked within {threat_text(*measured[0].threat)}, but the run was trained for "
            f"{threat_text(*run.threat)}; give an evaluation within that."
        )
    last: Mapping[str, Any] = run.end or next((line for line in reversed(run.metrics) if line["kind"] == "epoch"), {})
    return FinishedRun(
        folder=run.path,
        name=run.label or run.recipe,
        seed=run.seed,
        config=run.config,
        metrics=run.metrics,
        accuracies=_best(own),
        norm=run.norm,
        eps=run.eps,
        also=run.also,
        hardware=run.environment.get("hardware"),
        seconds=last.get("seconds"),
        forwards=last.get("forwards"),
        backwards=last.get("backwards"),
        data=run.data,
        network=run.network,
        corruptions=corrupted,
    )


def _best(measured: Sequence[Measurement]) -> dict[str, Accuracy]:
    """Return an accuracy for each attack: on test images if there are any, and on the most of them."""
    best: dict[str, Measurement] = {}
    for found in measured:
        known = best.get(found.attack)
        if known is None or (found.part == "test", found.n) > (known.part == "test", known.n):
            best[found.attack] = found
    return {
        name: Accuracy(found.correct / found.n, found.n, found.part, found.attacks, found.evaluation)
        for name, found in best.items()
    }


def _distinct(runs: Sequence[FinishedRun]) -> tuple[FinishedRun, ...]:
    """Return the runs under names such that runs of one name are seeds of one method.

    A name is followed by the settings in which its runs differ; and by the folder if two runs have all settings and
    the seed in common.
    """
    names = [run.name for run in runs]
    for name in dict.fromkeys(names):
        places = [i for i, run in enumerate(runs) if run.name == name]
        for i, text in zip(places, differences([runs[i].config for i in places]), strict=True):
            names[i] = f"{name} ({text})" if text else name
    counts = Counter((name, run.seed) for name, run in zip(names, runs, strict=True))
    twice = {name for (name, _), count in counts.items() if count > 1}
    ends = _short([run.folder for run in runs])
    return tuple(
        replace(run, name=printable(f"{name} ({end})" if name in twice else name))
        for run, name, end in zip(runs, names, ends, strict=True)
    )


def _short(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the folders' paths that are all different."""
    whole = [place.resolve() for place in places]
    for parts in range(1, max((len(place.parts) for place in whole), default=1)):
        ends = ["/".join(place.parts[-parts:]) for place in whole]
        if len(set(ends)) == len(ends):
            return ends
    return [str(place) for place in places]
