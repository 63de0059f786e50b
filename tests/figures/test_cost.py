"""Costs and the Pareto front: read off runs, averaged over seeds, drawn."""

import dataclasses
import json
from pathlib import Path

import pytest
from figure_models import write_row, write_run
from figures.figure_records import RECORDS, drawn, point, texts
from hypothesis import given
from hypothesis import strategies as st

from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.figures.catalogue import draw
from nuat.figures.cost import FIGURE, cost, pareto
from nuat.records.finished_runs import finished_runs

FOUND = {"clean": 0.9, "pgd-100": 0.6, "gama-100": 0.5}
RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.slow
def test_beside_test_images_those_of_tuning_do_not_count() -> None:
    record = cost(finished_runs([RESULTS / "mnist-small", RESULTS / "mnist-small-tuning"]))
    assert record.images == "test"
    rows = sorted((RESULTS / "mnist-small").rglob("row.json"))
    assert len(record.points) == len(rows)
    written = {
        (values["label"], values["seed"]): values["suites"]["main"]["accuracies"]["worst-case"]
        for values in map(json.loads, (row.read_text() for row in rows))
    }
    assert {(p.method, p.seed): p.accuracy for p in record.points} == pytest.approx(written)


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
    write_run(tmp_path / "c", recipe="C", accuracies={"pgd-100": 0.5}, epochs=0)
    record = cost(finished_runs([tmp_path / name for name in "abc"]), "pgd-100")
    a, b, c = record.methods
    assert (a.accuracy, a.interval, a.seconds, a.passes) == (0.5, wilson_interval(50, 100), 10.0, 1_500_000)
    assert (b.accuracy, b.interval, b.seconds) == (None, None, 10.0)
    assert (c.accuracy, c.seconds, c.passes) == (0.5, None, None)


def test_seeds_are_averaged(tmp_path: Path) -> None:
    for seed, value in ((0, 0.5), (1, 0.7)):
        suites = {"main": {"images": "test", "n": 100, "accuracies": {"pgd-100": value}}}
        write_row(tmp_path / f"{seed}", "A", seed=seed, suites=suites, seconds={"training": 10.0 * (seed + 1)})
    write_row(tmp_path / "2", "A", seed=2, suites={}, seconds={"training": 90.0})  # not attacked
    (method,) = cost(finished_runs([tmp_path])).methods
    assert (method.seeds, method.runs, method.seconds) == (2, 3, 15.0)
    assert method.accuracy == pytest.approx(0.6)
    assert method.interval == pytest.approx((0.6 - 0.02**0.5, 0.6 + 0.02**0.5))


def test_the_strongest_attack_that_all_have_is_taken(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", accuracies={**FOUND, "autoattack": 0.4})
    b = write_run(tmp_path / "b", accuracies=FOUND, recipe="b")
    assert cost(finished_runs([a])).attack == "autoattack"
    # both have a worst case, but over different attacks
    assert cost(finished_runs([a, b])).attack == "gama-100"
    with pytest.raises(InputError, match=r"over different attacks \(autoattack, clean, gama-100, pgd-100; clean"):
        cost(finished_runs([a, b]), "worst-case")
    assert cost(finished_runs([b])).attack == "worst-case"
    union = [dataclasses.replace(run, also="L2:1.5") for run in finished_runs([a])]
    assert cost(union).attack == "worst-case"  # AutoAttack is in one of the balls
    assert cost(union).ball == ", Linf eps 0.3 and L2 1.5"
    assert not cost(union).shares_setting(dataclasses.replace(cost(union), also=None))
    seed = write_run(tmp_path / "s", accuracies={"clean": 0.9, "gama-100": 0.4}, seed=1)
    assert cost(finished_runs([a, seed])).attack == "gama-100"  # of all runs, before autoattack of all methods
    with pytest.raises(InputError, match="no run has 'square'; measured were: clean, gama-100"):
        cost(finished_runs([b]), "square")


def test_other_data_eps_or_images_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", accuracies=FOUND)
    other = write_run(tmp_path / "b", accuracies=FOUND, data="cifar10", recipe="b")
    with pytest.raises(InputError, match="different data: mnist and cifar10"):
        cost(finished_runs([a, other]))
    wider = write_run(tmp_path / "c", accuracies=FOUND, eps=0.1, recipe="c")
    with pytest.raises(InputError, match=r"different eps: 0\.3 and 0\.1"):
        cost(finished_runs([a, wider]))
    deeper = write_run(tmp_path / "d", accuracies=FOUND, network="resnet18", recipe="d")
    with pytest.raises(InputError, match="different network: small-cnn and resnet18"):
        cost(finished_runs([a, deeper]))


@pytest.mark.slow
def test_the_cost_shows_the_front_and_what_is_missing() -> None:
    figure, (left, right) = drawn("cost")
    told = texts(figure)
    assert "Not measured under PGD-100: D." in told
    assert "Time or passes not recorded: C." in told
    front = [line for line in left.lines if line.get_label().startswith("_child") and len(line.get_xdata()) == 4]
    assert [(list(line.get_xdata())[:3], list(line.get_ydata())) for line in front] == [
        ([10.0, 20.0, 20.0], pytest.approx([20.0, 20.0, 50.0, 50.0]))
    ]
    assert {text.get_text() for text in left.texts} - {""} == {"A", "B", "C"}
    assert {text.get_text() for text in right.texts} - {""} == {"A", "B"}


@pytest.mark.slow
def test_the_small_print_says_how_many_seeds_a_point_is_of() -> None:
    seeds = tuple(dataclasses.replace(point("A", a, 10.0, 10**6), seed=i) for i, a in enumerate((0.5, None, None)))
    figure = draw([dataclasses.replace(RECORDS["cost"], points=seeds, attack="gama-100")])
    assert "A 1 of 3 seeds" in texts(figure)
    assert "accuracy under GAMA-PGD-100 (%)" in texts(figure)
    assert "in the worst case" in texts(draw([dataclasses.replace(RECORDS["cost"], attack="worst-case")]))


def test_the_table_shows_multiples_of_the_cheapest_or_of_a_method(tmp_path: Path) -> None:
    found = {"clean": 0.9, "pgd-100": 0.6}
    cheap = write_run(tmp_path / "a", recipe="cheap", accuracies=found)
    dear = write_run(tmp_path / "b", recipe="dear", accuracies=found, epochs=16)
    runs = finished_runs([cheap, dear])

    def multiples(baseline: str | None) -> dict[str, str]:
        assert FIGURE.table is not None
        table = FIGURE.table(cost(runs, baseline=baseline))
        name, *_, multiple = (list(column.cells) for column in table.columns)
        return dict(zip(map(str, name), map(str, multiple), strict=True))

    assert multiples(None) == {"cheap": "1.0", "dear": "8.0"}
    assert multiples("dear") == {"cheap": "0.1", "dear": "1.0"}
    with pytest.raises(InputError, match="no run is of the method 'chaep'; --baseline takes one of: cheap, dear"):
        cost(runs, baseline="chaep")
