"""Claim for RobustBench: an evaluation, its numbers, and where it departs from the leaderboard's rules.

RobustBench (Croce et al. 2021) ranks by AutoAttack v2: on the whole test set of CIFAR-10 and CIFAR-100 at Linf eps
8/255, on 5,000 images of ImageNet at 4/255. A claim that departs from this is still made, and says so.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nuat.attacks.lineups import STANDARD
from nuat.core import digest
from nuat.data import SETS, Images, to_float
from nuat.errors import InputError
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.export.trained_model import TrainedModel, logits
from nuat.records import checkpoints
from nuat.records.evaluations import evaluation_files, read_evaluation
from nuat.records.folder import RunFolder
from nuat.records.runs import ROW, read_row

LEADERBOARDS = {name: known.leaderboard for name, known in SETS.items() if known.leaderboard is not None}
"""Data set -> radius and number of test images of its Linf leaderboard."""

_SAME = 1e-9
_COMPARED = 200
_STRAY = 0.02
"""Fraction of clean verdicts that may differ: near ties can fall differently on another machine."""


@dataclass(frozen=True, eq=False)
class Claim:
    """Evaluation as a claim."""

    file: Path
    """JSON file of the evaluation."""
    evaluation: Evaluation
    """Content of that file."""
    dataset: str
    """RobustBench's name of the data set, or ours if it has none."""
    clean_file: Path
    """JSON file of the clean verdicts: the same file, or another evaluation of the run on the same images."""
    notes: tuple[str, ...]
    """Departures from the leaderboard's rules, one sentence each."""

    @property
    def clean(self) -> AttackResult:
        """Result without an attack."""
        return _result(self.evaluation, "clean")

    @property
    def robust(self) -> AttackResult:
        """Result of AutoAttack v2."""
        return _result(self.evaluation, "autoattack")


def make_claim(trained: TrainedModel, dataset: str, chosen: Path | None) -> Claim:
    """Return the claim that the evaluations in the weights' folder support.

    If the evaluated images are on this machine, the clean verdicts on the first 200 must be those of the weights.

    Args:
        trained: the model. The files evaluation*.json in the folder of its weights are read. If AutoAttack's file has
            no clean verdicts, as in a campaign, those of the same images are taken from another file.
        dataset: RobustBench's name of the data set, or ours.
        chosen: evaluation to take. None: among those with AutoAttack v2 and clean accuracy, the one at the
            leaderboard's eps (or the trained eps), then the one of most images, then the last by name.

    Raises:
        InputError: there is no such evaluation, or it is of other weights.
    """
    folder = trained.weights.parent
    elsewhere = _not_on_test(folder)
    beside = sorted(file for file in evaluation_files(folder) if file.name not in elsewhere)
    files = [chosen] if chosen is not None else beside
    found = {file: read_evaluation(file) for file in files}
    attacked = {file: e for file, e in found.items() if e.norm == "Linf" and _has(e, "autoattack")}
    others = found if chosen is None or not attacked else {**{file: read_evaluation(file) for file in beside}, **found}
    pairs = {file: pair for file, e in attacked.items() if (pair := _with_clean(file, e, others, trained.test))}
    usable = {file: evaluation for file, (evaluation, _) in pairs.items()}
    if attacked and not usable:
        raise InputError(
            f"{', '.join(file.name for file in attacked)}: clean and autoattack are not in one evaluation, and clean "
            f"of these images is in no other in {folder}. Run: {_command(trained.weights)}"
        )
    if not usable:
        held = ", ".join(sorted({r.name for e in found.values() for r in e.results})) or "no evaluation"
        raise InputError(
            "RobustBench ranks by AutoAttack v2 and clean accuracy, both of one Linf evaluation; "
            f"{chosen or folder} holds {held}. Run: {_command(trained.weights)}"
        )
    eps, whole = LEADERBOARDS.get(dataset, (trained.info.threat.eps, None))
    file = max(usable, key=lambda name: (abs(usable[name].eps - eps) < _SAME, usable[name].n, name.name))
    claim = Claim(file, usable[file], dataset, pairs[file][1], tuple(_departures(usable[file], dataset, eps, whole)))
    unchecked = _unchecked(claim.evaluation, trained.test)
    if trained.test is not None and not unchecked:
        _check_weights(claim, trained, trained.test)
    return replace(claim, notes=(*claim.notes, unchecked)) if unchecked else claim


def _not_on_test(folder: Path) -> set[str]:
    """Return the names of a campaign row's evaluations on validation images."""
    if not (folder / ROW).is_file():
        return set()
    suites = read_row(folder / ROW).get("suites", {})
    return {f"evaluation-{name}.json" for name, suite in suites.items() if suite["images"] != "test"}


def _with_clean(
    file: Path, evaluation: Evaluation, others: Mapping[Path, Evaluation], test: Images | None
) -> tuple[Evaluation, Path] | None:
    """Return the evaluation with clean verdicts on its images, and their file, or None if no file has them."""
    if _has(evaluation, "clean"):
        return evaluation, file
    for name, other in others.items():
        if not _has(other, "clean"):
            continue
        places = {index: place for place, index in enumerate(other.indices.tolist())}
        wanted = evaluation.indices.tolist()
        if not places.keys() >= set(wanted) or not _of_one_set(evaluation, other, test):
            continue
        chosen = torch.tensor([places[index] for index in wanted])
        # the cost of the clean pass is that of the other file's images, so it is left out
        clean = AttackResult("clean", {}, _result(other, "clean").correct[chosen], None, None, None)
        if bool((_result(evaluation, "autoattack").correct & ~clean.correct).double().mean() <= _STRAY):
            return replace(evaluation, results=(clean, *evaluation.results)), name
    return None


def _of_one_set(a: Evaluation, b: Evaluation, test: Images | None) -> bool:
    """Return whether two evaluations are of one test set, judging by their digests."""
    if a.images is None or b.images is None:
        return False  # format 1 has no digest
    if torch.equal(a.indices, b.indices):
        return a.images == b.images
    if test is None or max(int(a.indices.max()), int(b.indices.max())) >= len(test):
        return True  # digests of different selections differ, and the images to compare are not here
    parts = [test.select(one.indices) for one in (a, b)]
    known = [digest.of_tensors(part.images, part.labels) for part in parts]
    return [a.images == known[0], b.images == known[1]] in ([True, True], [False, False])


def _has(evaluation: Evaluation, name: str) -> bool:
    return any(result.name == name for result in evaluation.results)


def fraction(eps: float) -> str:
    """Return a radius as 8/255 if it is a whole number of grey levels, otherwise as a decimal."""
    levels = eps * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.6g}"


def percent(accuracy: float) -> str:
    """Return an accuracy in [0, 1] in percent with two decimals, as in model_info."""
    return f"{100 * accuracy:.2f}"


def _departures(evaluation: Evaluation, dataset: str, eps: float, whole: int | None) -> list[str]:
    notes = []
    if whole is None:
        notes.append(f"RobustBench has no Linf leaderboard of {dataset}, only of {', '.join(LEADERBOARDS)}.")
    else:
        if abs(evaluation.eps - eps) >= _SAME:
            notes.append(f"Evaluated at eps {fraction(evaluation.eps)}; the leaderboard's is {fraction(eps)}.")
        if evaluation.n < whole:
            low, high = (percent(end) for end in _result(evaluation, "autoattack").interval)
            notes.append(
                f"AutoAttack ran on {evaluation.n:,} images, on the leaderboard on {whole:,}: 95 % interval {low} to "
                f"{high}."
            )
    line_up = tuple(_result(evaluation, "autoattack").settings.get("line_up", STANDARD))
    if line_up != STANDARD:
        notes.append(f"AutoAttack ran {', '.join(line_up)}, not its standard {', '.join(STANDARD)}.")
    worst, robust = evaluation.accuracy("worst-case"), evaluation.accuracy("autoattack")
    if worst < robust:
        others = ", ".join(r.name for r in evaluation.results if r.name not in ("clean", "autoattack"))
        notes.append(f"Together with {others} the robust accuracy is {percent(worst)}, not {percent(robust)}.")
    return notes


def _unchecked(evaluation: Evaluation, test: Images | None) -> str:
    """Return why the evaluation cannot be compared with the weights' own predictions, or nothing if it can."""
    if test is None or (len(evaluation.indices) and int(evaluation.indices.max()) >= len(test)):
        return "The evaluated images are not on this machine: not checked that they were given to these very weights."
    claimed = test.select(evaluation.indices)
    if evaluation.images is not None and evaluation.images != digest.of_tensors(claimed.images, claimed.labels):
        return "Evaluated on other images than the run's: not checked that they were given to these very weights."
    return ""


def _check_weights(claim: Claim, trained: TrainedModel, test: Images) -> None:
    """Refuse an evaluation whose clean verdicts on its first 200 images differ from the weights' predictions."""
    part = test.select(claim.evaluation.indices[:_COMPARED])
    now = logits(checkpoints.load(trained.weights), to_float(part.images)).argmax(dim=1) == part.labels
    stray = int((now != claim.clean.correct[: len(now)]).sum())
    if stray > _STRAY * len(now):
        raise InputError(
            f"{claim.file}: is not an evaluation of {trained.weights}: verdicts differ on {stray} of {len(now)} clean "
            f"images. Run: {_command(trained.weights)}"
        )


def _command(weights: Path) -> str:
    """Return the command that evaluates the weights as the leaderboard does."""
    run = weights.parent if weights == RunFolder(weights.parent).best else weights
    return f"nuat evaluate {shlex.quote(str(run))} --suite standard --n none"


def _result(evaluation: Evaluation, name: str) -> AttackResult:
    return next(result for result in evaluation.results if result.name == name)
