"""Runs read off their folders, and what is made of them: costs and the Pareto front, lambda, training curves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from analysis_models import evaluation, write_row, write_run
from hypothesis import given
from hypothesis import strategies as st

from nuat.analysis.cost import cost, pareto
from nuat.analysis.lambda_sweep import has_lambda, lambda_sweep
from nuat.analysis.runs import find_runs
from nuat.analysis.settings import differences
from nuat.analysis.training_curves import TrainingCurves, training_curves
from nuat.errors import InputError
from nuat.evaluation.results import wilson_interval
from nuat.report import figures, plots
from nuat.report.plots import style

RESULTS = Path(__file__).parents[2] / "results"
FOUND = {"clean": 0.9, "pgd-100": 0.6, "gama-100": 0.5}


def test_a_run_is_read_with_its_cost_and_accuracies(tmp_path: Path) -> None:
    (run,) = find_runs([write_run(tmp_path / "a", accuracies=FOUND)])
    assert (run.name, run.seed, run.hardware, run.data, run.eps) == ("ours", 0, "a machine", "mnist", 0.3)
    assert (run.seconds, run.forwards, run.backwards) == (6.0, 200, 100)
    assert {name: (found.value, found.n, found.images) for name, found in run.accuracies.items()} == {
        "clean": (0.9, 20, "test"), "pgd-100": (0.6, 20, "test"), "gama-100": (0.5, 20, "test"),
        "worst-case": (0.5, 20, "test"),
    }  # fmt: skip


def test_an_evaluations_file_counts_alone_and_partial_ones_never(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", accuracies=FOUND)
    evaluation({"autoattack": 0.4}).save(folder / "evaluation-more.json")
    (folder / "best.evaluation-1234.partial.json").write_text("{")
    (folder / "evaluation.partial.json").write_text("{")
    assert set(find_runs([folder / "evaluation-more.json"])[0].accuracies) == {"autoattack"}
    assert set(find_runs([folder])[0].accuracies) == {*FOUND, "autoattack", "worst-case"}


def test_a_campaigns_folder_gives_its_finished_rows(tmp_path: Path) -> None:
    write_row(tmp_path / "a" / "seed-0", "A")
    write_row(tmp_path / "b" / "seed-0", "B", status="failed")
    (tmp_path / "c" / "seed-0").mkdir(parents=True)
    (run,) = find_runs([tmp_path, tmp_path / "a" / "seed-0", tmp_path / "a" / "seed-0" / "row.json"])
    assert (run.name, run.seconds, run.forwards) == ("A", 10.0, 1_000_000)


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name, accuracies=FOUND) for name in ("one", "two"))
    assert [run.name for run in find_runs([one, two])] == ["ours (one)", "ours (two)"]
    again = write_run(tmp_path / "deep" / "one", accuracies=FOUND)
    assert [run.name for run in find_runs([one, again])] == [f"ours ({tmp_path.name}/one)", "ours (deep/one)"]
    seeds = [write_run(tmp_path / f"s{seed}", accuracies=FOUND, seed=seed) for seed in (1, 2)]
    assert [run.name for run in find_runs(seeds)] == ["ours", "ours"]


def test_runs_of_one_name_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    made = [
        write_run(tmp_path / f"{lr}-{seed}", accuracies=FOUND, lr=lr, seed=seed)
        for lr, seed in ((0.1, 0), (0.1, 1), (0.5, 2))
    ]
    assert [run.name for run in find_runs(made)] == ["ours (lr.peak 0.1)", "ours (lr.peak 0.1)", "ours (lr.peak 0.5)"]
    row = write_row(tmp_path / "rows" / "a", "net (epochs 5, lr 1)", recipe="net", settings={"epochs": "5", "lr": "1"})
    assert find_runs([row])[0].name == "net"  # as the report calls it


def test_accuracies_are_those_within_the_runs_own_ball_on_the_most_images(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", accuracies=FOUND)  # 20 images
    evaluation({"clean": 0.8, "pgd-100": 0.4, "square": 0.7}, n=100).save(folder / "evaluation-b.json")
    evaluation({"pgd-100": 0.1, "gama-100": 0.1}, n=500, eps=0.1).save(folder / "evaluation-a.json")
    evaluation({"pgd-100": 0.2, "gama-100": 0.2}, n=500, norm="L2").save(folder / "evaluation-c.json")
    (run,) = find_runs([folder])
    assert {name: (found.value, found.n) for name, found in run.accuracies.items()} == {
        "clean": (0.8, 100), "pgd-100": (0.4, 100), "gama-100": (0.5, 20), "square": (0.7, 100),
        "worst-case": (0.4, 100),
    }  # fmt: skip
    assert run.accuracies["worst-case"].attacks == ("clean", "pgd-100", "square")
    with pytest.raises(InputError, match=r"within Linf 0\.1, but the run was trained for Linf 0\.3"):
        find_runs([folder / "evaluation-a.json"])


def test_a_row_is_read_with_its_evaluations(tmp_path: Path) -> None:
    suites = {
        "main": {"images": "test", "n": 100, "accuracies": {"clean": 0.9, "pgd-100": 0.5, "worst-case": 0.5}},
        "validation": {"images": "validation", "n": 900, "accuracies": {"pgd-100": 0.6}},
    }
    folder = write_row(tmp_path / "a", "A", suites=suites)
    evaluation({"pgd-100": 0.4}, n=500).save(folder / "evaluation-later.json")
    evaluation({"pgd-100": 0.3}, n=600).save(folder / "evaluation-validation.json")
    (run,) = find_runs([folder])
    assert {name: (found.value, found.n, found.images) for name, found in run.accuracies.items()} == {
        "clean": (0.9, 100, "test"), "pgd-100": (0.4, 500, "test"),
    }  # fmt: skip


def test_the_tuning_of_the_campaign_is_a_sweep() -> None:
    runs = find_runs([RESULTS / "mnist-small-tuning"])
    assert len({(run.name, run.seed) for run in runs}) == len(runs) > 60
    record = lambda_sweep([run for run in runs if has_lambda(run)])
    assert (record.attack, record.images, record.eps) == ("worst-case", "validation", 0.3)
    assert sorted({point.series for point in record.points}) == ["lr.peak 0.02", "lr.peak 0.05", "lr.peak 0.1"]
    assert len({(point.series, point.lam) for point in record.points}) == len(record.points) == 6


def test_beside_test_images_those_of_tuning_do_not_count() -> None:
    record = cost(find_runs([RESULTS / "mnist-small", RESULTS / "mnist-small-tuning"]))
    assert record.images == "test"
    rows = sorted((RESULTS / "mnist-small").rglob("row.json"))
    assert len(record.points) == len(rows)
    written = {
        (values["label"], values["seed"]): values["suites"]["main"]["accuracies"]["worst-case"]
        for values in map(json.loads, (row.read_text() for row in rows))
    }
    assert {(p.method, p.seed): p.accuracy for p in record.points} == pytest.approx(written)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: p / "none", "no such run or file"),
        (lambda p: p, "neither the folder of a run nor that of a campaign"),
        (lambda p: write_row(p / "r", "A", status="failed"), "not done .it diverged"),
        (lambda p: write_row(p / "c" / "r", "A", status="failed").parent, "none of its 1 rows is done"),
        (lambda p: write_row(p / "r", "A", suites=3), "damaged"),
    ],
)
def test_what_is_no_run_is_said(tmp_path: Path, make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        find_runs([make(tmp_path)])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", accuracies=FOUND)
    for name, told in (("evaluation.json", "evaluation.json: not JSON"), ("metrics.jsonl", "metrics.jsonl: damaged")):
        kept = (folder / name).read_text()
        (folder / name).write_text(kept[: len(kept) // 2])
        with pytest.raises(InputError, match=told):
            find_runs([folder])
        (folder / name).write_text(kept)
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match="does not hold an evaluation"):
        find_runs([folder])
    with pytest.raises(InputError, match="name at least one"):
        find_runs([])


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    costs, values = [c for c, _ in points], [v for _, v in points]
    front = pareto(costs, values)
    beaten = [any((c <= cost and v > value) or (c < cost and v >= value) for c, v in points) for cost, value in points]
    assert {points[i] for i in front} == {point for point, lost in zip(points, beaten, strict=True) if not lost}
    assert len({points[i] for i in front}) == len(front)
    assert [costs[i] for i in front] == sorted(costs[i] for i in front)


def test_missing_measurements_stay_missing(tmp_path: Path) -> None:
    write_row(tmp_path / "a", "A")
    write_row(tmp_path / "b", "B", suites={"main": {"images": "test", "n": 50, "accuracies": {"clean": 0.8}}})
    write_row(tmp_path / "c", "C", seconds={"training": None}, forwards=None)
    record = cost(find_runs([tmp_path]), "pgd-100")
    a, b, c = record.methods
    assert (a.accuracy, a.interval, a.seconds, a.passes) == (0.5, wilson_interval(50, 100), 10.0, 1_500_000)
    assert (b.accuracy, b.interval, b.seconds) == (None, None, 10.0)
    assert (c.accuracy, c.seconds, c.passes) == (0.5, None, None)


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed, value in ((0, 0.5), (1, 0.7)):
        suites = {"main": {"images": "test", "n": 100, "accuracies": {"pgd-100": value}}}
        write_row(tmp_path / f"{seed}", "A", seed=seed, suites=suites, seconds={"training": 10.0 * (seed + 1)})
    write_row(tmp_path / "2", "A", seed=2, suites={}, seconds={"training": 90.0})  # not attacked
    (method,) = cost(find_runs([tmp_path])).methods
    assert (method.seeds, method.runs, method.seconds) == (2, 3, 15.0)
    assert method.accuracy == pytest.approx(0.6)
    assert method.interval == pytest.approx((0.6 - 0.02**0.5, 0.6 + 0.02**0.5))


def test_the_strongest_attack_that_all_have_is_taken(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", accuracies={**FOUND, "autoattack": 0.4})
    b = write_run(tmp_path / "b", accuracies=FOUND, recipe="b")
    assert cost(find_runs([a])).attack == "autoattack"
    # both have a worst case, but over different attacks
    assert cost(find_runs([a, b])).attack == "gama-100"
    with pytest.raises(InputError, match=r"over different attacks \(autoattack, clean, gama-100, pgd-100; clean"):
        cost(find_runs([a, b]), "worst-case")
    assert cost(find_runs([b])).attack == "worst-case"
    seed = write_run(tmp_path / "s", accuracies={"clean": 0.9, "gama-100": 0.4}, seed=1)
    assert cost(find_runs([a, seed])).attack == "gama-100"  # of all runs, before autoattack of all methods
    with pytest.raises(InputError, match="no run has 'square'; measured were: clean, gama-100"):
        cost(find_runs([b]), "square")


def test_other_data_eps_or_images_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", accuracies=FOUND)
    other = write_run(tmp_path / "b", accuracies=FOUND, data="cifar10", recipe="b")
    with pytest.raises(InputError, match="different data: mnist and cifar10"):
        cost(find_runs([a, other]))
    wider = write_run(tmp_path / "c", accuracies=FOUND, eps=0.1, recipe="c")
    with pytest.raises(InputError, match=r"different eps: 0\.3 and 0\.1"):
        cost(find_runs([a, wider]))
    deeper = write_run(tmp_path / "d", accuracies=FOUND, network="resnet18", recipe="d")
    with pytest.raises(InputError, match="different network: small-cnn and resnet18"):
        cost(find_runs([a, deeper]))


def test_a_sweep_takes_the_last_lambda_and_parts_series(tmp_path: Path) -> None:
    made = [
        write_run(tmp_path / f"{lam}-{lr}", accuracies=FOUND, lam=lam, lr=lr, recipe=f"{lam}-{lr}")
        for lam, lr in ((4.0, 0.1), (2.0, 0.1), (2.0, 0.5))
    ]
    record = lambda_sweep(find_runs(made))
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
        lambda_sweep(find_runs([other]))
    ours = write_run(tmp_path / "b", accuracies=FOUND, lam=2.0)
    (ours / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="defense NuAT"):
        lambda_sweep(find_runs([ours]))


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
    (run,) = training_curves(find_runs([folder])).runs
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
        training_curves(find_runs([write_run(tmp_path / "a", epochs=0)]))


def test_a_runs_own_picture_is_of_the_same_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", lam=3.0, epochs=3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figures.training_curves(lines, folder / "curves.svg")
    (run,) = training_curves(find_runs([folder])).runs
    style.save(plots.draw([TrainingCurves(runs=(dataclasses.replace(run, name=""),))]), folder / "again.svg")
    assert (folder / "curves.svg").read_bytes() == (folder / "again.svg").read_bytes()
    figures.training_curves([], folder / "empty.png")  # of a run that was cut off in its first epoch
    assert (folder / "empty.png").read_bytes().startswith(b"\x89PNG")
