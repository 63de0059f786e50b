"""Results on a model that nuat did not train: its evaluations, corruptions and diagnosis in a folder without a run."""

from pathlib import Path

from nuat.errors import InputError, printable
from nuat.records.corruptions import corruption_files, read_all_corruptions
from nuat.records.diagnoses import read_diagnosis
from nuat.records.evaluations import evaluation_files, read_evaluations
from nuat.records.runs import ANALYSES, RunRecord, is_run, read_run

_FROM_ELSEWHERE = "a model from elsewhere"


def holds_results(folder: Path) -> bool:
    """Return whether a folder holds an evaluation, results on corrupted images or a diagnosis, and is no run."""
    return holds_accuracies(folder) or (not is_run(folder) and (folder / "diagnosis.json").is_file())


def holds_accuracies(folder: Path) -> bool:
    """Return whether a folder holds an evaluation or results on corrupted images, and is no run."""
    return not is_run(folder) and bool([*evaluation_files(folder), *corruption_files(folder)])


def read_run_or_results(folder: Path) -> RunRecord:
    """Return what a folder holds: a run, or the results of a model that nuat did not train; errors as of either."""
    return read_results(folder) if holds_results(folder) else read_run(folder)


def read_results(folder: Path) -> RunRecord:
    """Return what is known of the model whose results a folder holds, named like the folder.

    Raises:
        InputError: no evaluation and no results on corrupted images in it can be read.
    """
    evaluations, broken = read_evaluations(folder, {})
    corruptions, corrupt = read_all_corruptions(folder)
    diagnosis, undiagnosed = read_diagnosis(folder / "diagnosis.json")
    if not evaluations and not corruptions:
        reasons = [*broken.values(), *corrupt.values(), *undiagnosed] or ["there is none"]
        raise InputError(f"{folder}: holds no evaluation that can be read ({reasons[0]}).")
    ball = evaluations[0].evaluation if evaluations else None
    return RunRecord(
        path=folder,
        called=str(folder),
        recipe=_FROM_ELSEWHERE,
        label=printable(folder.resolve().name),
        campaign=None,
        seed=None,
        config={},
        norm="Linf" if ball is None else ball.norm,
        eps=None if ball is None else ball.eps,
        also=None if ball is None else ball.also,
        environment={},
        source={},
        metrics=(),
        epochs=(),
        end={},
        alarms=(),
        damaged=(*broken.values(), *corrupt.values(), *undiagnosed),
        resumed=0,
        failure=None,
        failed_suites={},
        evaluations=evaluations,
        measurements=tuple(found for file in evaluations for found in file.measurements()),
        diagnosis=diagnosis,
        analyses=tuple(sorted(folder.glob(ANALYSES))),
        examples=None,
        weights=None,
        trained_here=False,
        corruptions=corruptions,
    )
