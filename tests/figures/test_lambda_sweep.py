"""Lambda sweeps: read off runs and drawn."""

from pathlib import Path
from typing import Any

import pytest
from figure_models import write_run
from figures.figure_records import drawn

from nuat.errors import InputError
from nuat.figures.lambda_sweep import has_lambda, lambda_sweep
from nuat.records.finished_runs import finished_runs
from nuat.records.methods import differences

FOUND = {"clean": 0.9, "pgd-100": 0.6, "gama-100": 0.5}
RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.slow
def test_the_tuning_of_the_campaign_is_a_sweep() -> None:
    runs = finished_runs([RESULTS / "mnist-small-tuning"])
    assert len({(run.name, run.seed) for run in runs}) == len(runs) > 60
    record = lambda_sweep([run for run in runs if has_lambda(run)])
    assert (record.attack, record.images, record.eps) == ("worst-case", "validation", 0.3)
    assert sorted({point.series for point in record.points}) == ["lr.peak 0.02", "lr.peak 0.05", "lr.peak 0.1"]
    assert len({(point.series, point.lam) for point in record.points}) == len(record.points) == 6


def test_a_sweep_takes_the_last_lambda_and_parts_series(tmp_path: Path) -> None:
    made = [
        write_run(tmp_path / f"{lam}-{lr}", accuracies=FOUND, lam=lam, lr=lr, recipe=f"{lam}-{lr}")
        for lam, lr in ((4.0, 0.1), (2.0, 0.1), (2.0, 0.5))
    ]
    record = lambda_sweep(finished_runs(made))
    assert [(p.series, p.lam, p.clean, p.robust, p.n_robust) for p in record.points] == [
        ("lr.peak 0.1", 2.0, 0.9, 0.5, 20),
        ("lr.peak 0.1", 4.0, 0.9, 0.5, 20),
        ("lr.peak 0.5", 2.0, 0.9, 0.5, 20),
    ]
    assert record.attack == "worst-case"
    same: list[dict[str, Any]] = [{"a": 1, "seed": 0}, {"a": 1, "seed": 1, "new": None}]
    assert differences(same) == ["", ""]


def test_runs_without_a_lambda_are_refused(tmp_path: Path) -> None:
    other = write_run(tmp_path / "a", accuracies=FOUND)
    with pytest.raises(InputError, match=r"no run of NuAT with its metrics \(defense PGDAT\)"):
        lambda_sweep(finished_runs([other]))
    ours = write_run(tmp_path / "b", accuracies=FOUND, lam=2.0)
    (ours / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="defense NuAT"):
        lambda_sweep(finished_runs([ours]))
    with pytest.raises(InputError, match="there is no lambda to plot"):
        lambda_sweep([])


def test_runs_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", accuracies=FOUND, lam=2.0)
    wider = write_run(tmp_path / "b", accuracies=FOUND, lam=4.0, eps=0.1)
    with pytest.raises(InputError, match=r"different eps: 0\.3 and 0\.1"):
        lambda_sweep(finished_runs([one, wider]))
    harder = write_run(tmp_path / "c", accuracies={**FOUND, "square": 0.4}, lam=4.0)
    with pytest.raises(InputError, match="over different attacks"):
        lambda_sweep(finished_runs([one, harder]), "worst-case")
    with pytest.raises(InputError, match="the runs have no robust accuracy square"):
        lambda_sweep(finished_runs([one]), "square")


def test_a_lambda_without_a_measurement_has_no_point() -> None:
    _, axes = drawn("lambda-sweep")
    lines = {tuple(c.lines[0].get_xdata()): list(c.lines[0].get_ydata()) for c in axes[0].containers}
    assert lines == {(1.0, 2.0): pytest.approx([90.0, 80.0]), (1.0,): pytest.approx([60.0])}
