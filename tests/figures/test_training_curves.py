"""Training curves: read off the metrics of runs and drawn."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from figure_models import write_run
from figures.figure_records import drawn, texts

from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.catalogue import draw
from nuat.figures.training_curves import TrainingCurves, save, training_curves
from nuat.records.finished_runs import finished_runs

FOUND = {"clean": 0.9, "pgd-100": 0.6, "gama-100": 0.5}
RESULTS = Path(__file__).parents[2] / "results"


def test_training_curves_are_the_metrics(tmp_path: Path) -> None:
    extra = (
        {"kind": "alarm", "monitor": "overfitting", "epoch": 2, "message": "beware", "stop": False},
        {"kind": "switch", "epoch": 1, "batch": 3, "two_step": True},
        {"kind": "switch", "epoch": 1, "batch": 5, "two_step": False},
    )
    folder = write_run(tmp_path / "a", lam=3.0, epochs=3, extra=extra)
    text = (folder / "metrics.jsonl").read_text().splitlines()
    second = json.loads(text[1])
    second["train"]["nuclear"] = None  # what a record holds in place of NaN
    second["validation"] = {}
    (folder / "metrics.jsonl").write_text("\n".join([text[0], json.dumps(second), *text[2:]]) + "\n")
    (run,) = training_curves(finished_runs([folder])).runs
    assert run.epochs == (1, 2, 3)
    assert run.series["lr"] == pytest.approx((0.1, 0.05, 0.1 / 3))
    assert run.series["train.lam"] == pytest.approx((1.0, 2.0, 3.0))
    assert run.series["train.nuclear"] == (0.3, None, 0.3)
    assert run.series["validation.live.pgd"] == (0.5, None, 0.5)
    assert run.best_epoch == 3
    assert [(alarm.epoch, alarm.monitor, alarm.message) for alarm in run.alarms] == [(2, "overfitting", "beware")]
    assert run.switches == (0, 2, 0)  # the record counts the epochs of switches from 0


def test_a_run_without_epochs_has_no_curves(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no epoch is recorded"):
        training_curves(finished_runs([write_run(tmp_path / "a", epochs=0)]))


@pytest.mark.slow
def test_a_runs_own_picture_is_of_the_same_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", lam=3.0, epochs=3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    save(lines, {}, folder / "curves.svg")
    (run,) = training_curves(finished_runs([folder])).runs
    style.save(draw([TrainingCurves(runs=(dataclasses.replace(run, name=""),))]), folder / "again.svg")
    assert (folder / "curves.svg").read_bytes() == (folder / "again.svg").read_bytes()
    save([], {}, folder / "empty.png")  # of a run that was cut off in its first epoch
    assert (folder / "empty.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_epoch_that_was_not_measured_is_a_gap() -> None:
    figure, axes = drawn("training")
    values = [list(line.get_ydata()) for axis in axes for line in axis.lines]
    assert any(v[0] == 2.0 and math.isnan(v[1]) and v[2] == 1.0 for v in values if len(v) == 3)
    assert any(v[0] == 10.0 and math.isnan(v[1]) for v in values if len(v) == 3)
    assert "alarm: overfitting" in texts(figure)
    assert {"GAMA-PGD-20", "GAMA-PGD-20, live", "(decay 0.995)"} <= set(texts(figure).splitlines())
    assert "(2 switches)" in texts(figure)


@pytest.mark.slow
def test_accuracies_between_which_epochs_were_not_validated_are_joined(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", epochs=5)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "epoch" and line["epoch"] in (2, 4):
            line["validation"] = {}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    accuracies = draw([training_curves(finished_runs([folder]))]).axes[1]
    curves = [line for line in accuracies.lines if line.get_label() in ("clean", "FGSM", "PGD-7")]
    assert len(curves) == 3
    for line in curves:
        assert list(line.get_xdata()) == [1, 3, 5]
        assert not any(math.isnan(value) for value in line.get_ydata())
        assert line.get_marker() == "o"


def test_the_rank_of_the_logit_differences_has_an_axis_of_its_own() -> None:
    _, axes = drawn("training")
    (shown,) = [axis for axis in axes if axis.get_ylabel() == "effective rank of the logit differences"]
    (line,) = shown.lines
    low, gap, high = line.get_ydata()
    assert (low, high) == (1.0, 4.5)
    assert math.isnan(gap)
    assert shown.get_ylim()[0] == 0
