"""Results on a model that nuat did not train: a folder of one model's evaluations and diagnosis, without a run."""

from pathlib import Path

from nuat.errors import InputError, printable
from nuat.records.evaluations import evaluation_files, read_evaluations
from nuat.records.runs import ANALYSES, RunRecord, is_run, read_diagnosis

_FROM_ELSEWHERE = "a model from elsewhere"


def holds_results(folder: Path) -> bool:
    """Return whether a folder holds an evaluation or a diagnosis, and is no run."""
    return not is_run(folder) and (bool(evaluation_files(folder)) or (folder / "diagnosis.json").is_file())


def read_results(folder: Path) -> RunRecord:
    """Return what is known of the model whose results a folder holds, named like the folder.

    Raises:
        InputError: no evaluation in it can be read.
    """
    evaluations, broken = read_evaluations(folder, {})
    diagnosis, undiagnosed = read_diagnosis(folder / "diagnosis.json")
    if not evaluations:
        reasons = [*broken.values(), *undiagnosed] or ["there is none"]
        raise InputError(f"{folder}: holds no evaluation that can be read ({reasons[0]}).")
    ball = evaluations[0].evaluation
    return RunRecord(
        path=folder,
        called=printable(str(folder)),
        recipe=_FROM_ELSEWHERE,
        label=printable(folder.resolve().name),
        campaign=None,
        seed=None,
        config={},
        norm=ball.norm,
        eps=ball.eps,
        also=ball.also,
        environment={},
        source={},
        metrics=(),
        epochs=(),
        end={},
        alarms=(),
        damaged=(*broken.values(), *undiagnosed),
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
    )
