"""Runs read off their folders, and what is made of them: costs and the Pareto front, lambda, training curves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from figure_models import evaluation, write_row, write_run

from nuat.errors import InputError
from nuat.records.finished_runs import check_same_data, finished_runs
from nuat.records.search import find_runs

RESULTS = Path(__file__).parents[2] / "results"
FOUND = {"clean": 0.9, "pgd-100": 0.6, "gama-100": 0.5}


def test_a_run_is_read_with_its_cost_and_accuracies(tmp_path: Path) -> None:
    (run,) = finished_runs([write_run(tmp_path / "a", accuracies=FOUND)])
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
    assert set(finished_runs([folder / "evaluation-more.json"])[0].accuracies) == {"autoattack"}
    assert set(finished_runs([folder])[0].accuracies) == {*FOUND, "autoattack", "worst-case"}


def test_a_campaigns_folder_gives_its_finished_rows(tmp_path: Path) -> None:
    write_row(tmp_path / "a" / "seed-0", "A")
    write_row(tmp_path / "b" / "seed-0", "B", status="failed")
    (tmp_path / "c" / "seed-0").mkdir(parents=True)
    (run,) = finished_runs([tmp_path, tmp_path / "a" / "seed-0", tmp_path / "a" / "seed-0" / "row.json"])
    assert (run.name, run.seconds, run.forwards) == ("A", 10.0, 1_000_000)


def test_runs_below_a_folder_come_before_its_results(tmp_path: Path) -> None:
    evaluation({"clean": 0.4}).save(tmp_path / "evaluation.json")
    assert [run.folder for run in finished_runs([tmp_path])] == [tmp_path]
    write_run(tmp_path / "a", accuracies=FOUND)
    assert [run.folder for run in finished_runs([tmp_path])] == [tmp_path / "a"]
    assert [run.called for run in find_runs([tmp_path]).runs] == [f"{tmp_path.name}/a"]


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name, accuracies=FOUND) for name in ("one", "two"))
    assert [run.name for run in finished_runs([one, two])] == ["ours (one)", "ours (two)"]
    again = write_run(tmp_path / "deep" / "one", accuracies=FOUND)
    assert [run.name for run in finished_runs([one, again])] == [f"ours ({tmp_path.name}/one)", "ours (deep/one)"]
    seeds = [write_run(tmp_path / f"s{seed}", accuracies=FOUND, seed=seed) for seed in (1, 2)]
    assert [run.name for run in finished_runs(seeds)] == ["ours", "ours"]


def test_runs_of_one_name_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    made = [
        write_run(tmp_path / f"{lr}-{seed}", accuracies=FOUND, lr=lr, seed=seed)
        for lr, seed in ((0.1, 0), (0.1, 1), (0.5, 2))
    ]
    assert [run.name for run in finished_runs(made)] == [
        "ours (lr.peak 0.1)",
        "ours (lr.peak 0.1)",
        "ours (lr.peak 0.5)",
    ]
    row = write_row(tmp_path / "rows" / "a", "net (epochs 5, lr 1)", recipe="net", settings={"epochs": "5", "lr": "1"})
    assert finished_runs([row])[0].name == "net"  # as the report calls it


def test_accuracies_are_those_within_the_runs_own_ball_on_the_most_images(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", accuracies=FOUND)  # 20 images
    evaluation({"clean": 0.8, "pgd-100": 0.4, "square": 0.7}, n=100).save(folder / "evaluation-b.json")
    evaluation({"pgd-100": 0.1, "gama-100": 0.1}, n=500, eps=0.1).save(folder / "evaluation-a.json")
    evaluation({"pgd-100": 0.2, "gama-100": 0.2}, n=500, norm="L2").save(folder / "evaluation-c.json")
    (run,) = finished_runs([folder])
    assert {name: (found.value, found.n) for name, found in run.accuracies.items()} == {
        "clean": (0.8, 100), "pgd-100": (0.4, 100), "gama-100": (0.5, 20), "square": (0.7, 100),
        "worst-case": (0.4, 100),
    }  # fmt: skip
    assert run.accuracies["worst-case"].attacks == ("clean", "pgd-100", "square")
    with pytest.raises(InputError, match=r"within Linf eps 0\.1, but the run was trained for Linf eps 0\.3"):
        finished_runs([folder / "evaluation-a.json"])


def test_the_own_ball_of_a_wider_evaluation_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    wider = evaluation({"clean": 0.9, "pgd-100": 0.5, "L2:pgd-100": 0.2, "L2:square": 0.1})
    replace(wider, also="L2:1.5").save(folder / "evaluation-wider.json")
    for run in finished_runs([folder]) + finished_runs([folder / "evaluation-wider.json"]):
        assert {name: found.value for name, found in run.accuracies.items()} == {"clean": 0.9, "pgd-100": 0.5}
        evaluations = [found.evaluation for found in run.accuracies.values()]
        assert all(one is not None and (one.norm, one.eps, one.also) == ("Linf", 0.3, None) for one in evaluations)


def test_a_row_is_read_with_its_evaluations(tmp_path: Path) -> None:
    suites = {
        "main": {"images": "test", "n": 100, "accuracies": {"clean": 0.9, "pgd-100": 0.5, "worst-case": 0.5}},
        "validation": {"images": "validation", "n": 900, "accuracies": {"pgd-100": 0.6}},
    }
    folder = write_row(tmp_path / "a", "A", suites=suites)
    evaluation({"pgd-100": 0.4}, n=500).save(folder / "evaluation-later.json")
    evaluation({"pgd-100": 0.3}, n=600).save(folder / "evaluation-validation.json")
    (run,) = finished_runs([folder])
    assert {name: (found.value, found.n, found.images) for name, found in run.accuracies.items()} == {
        "clean": (0.9, 100, "test"), "pgd-100": (0.4, 500, "test"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: p / "none", "no such run or file"),
        (lambda p: p, "neither the folder of a run nor that of a campaign"),
        (lambda p: write_row(p / "r", "A", status="failed"), "not done .it diverged"),
        (lambda p: write_row(p / "c" / "r", "A", status="failed").parent, "none of its 1 runs is done"),
        (lambda p: write_row(p / "r", "A", suites=3), "suites: expected an object; it is 3"),
    ],
)
def test_what_is_no_run_is_said(tmp_path: Path, make: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        finished_runs([make(tmp_path)])


def test_names_are_printable(tmp_path: Path) -> None:
    """Of two runs of one recipe and seed, each is named by its folder."""
    runs = finished_runs([write_run(tmp_path / name) for name in ("a\x1b[31m", "b\n")])
    assert [run.name for run in runs] == [r"ours (a\x1b[31m)", r"ours (b\n)"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", accuracies=FOUND)
    for name, told in (("evaluation.json", "does not hold .* .not JSON"), ("metrics.jsonl", "line 1: not JSON")):
        kept = (folder / name).read_text()
        (folder / name).write_text(kept[: len(kept) // 9] + "\n")
        with pytest.raises(InputError, match=told):
            finished_runs([folder])
        (folder / name).write_text(kept)
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match="does not hold an evaluation"):
        finished_runs([folder])
    with pytest.raises(InputError, match="name at least one"):
        finished_runs([])


def test_a_file_beside_the_evaluations_is_none(tmp_path: Path) -> None:
    other = write_run(tmp_path / "a", accuracies=FOUND) / "evaluation-of-mine.txt"
    other.write_text("")
    with pytest.raises(InputError, match=r"evaluation-of-mine\.txt: is no evaluation of the run in"):
        finished_runs([other])


@pytest.mark.parametrize("change", [{"data": "other"}, {"network": "other"}, {"norm": "L2"}, {"eps": 0.7}])
def test_runs_of_other_images_networks_or_balls_are_no_figure(change: dict[str, Any], tmp_path: Path) -> None:
    (one,) = finished_runs([write_run(tmp_path / "a")])
    check_same_data([one, one])
    with pytest.raises(InputError, match=rf"have different {next(iter(change))}: "):
        check_same_data([one, replace(one, **change)])
    check_same_data([one, replace(one, **dict.fromkeys(change))])  # not recorded
