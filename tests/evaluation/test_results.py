"""Results: the JSON and back, the table."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_models import THREAT, tiny_case
from rich.console import Console

from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.evaluation.evaluate import evaluate
from nuat.evaluation.result_table import evaluation_table
from nuat.evaluation.results import AttackResult, Evaluation


@pytest.fixture(scope="module")
def found() -> Evaluation:
    model, images = tiny_case(60)
    return evaluate(model, images, ("clean", "pgd-1", "pgd-4", "gama-2"), threat=THREAT, n=50, seed=3, batch_size=20)


def test_json_and_back(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "evaluation.json")
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values == found.to_json()
    again = Evaluation.from_json(values)
    assert again.to_json() == found.to_json()
    for ours, theirs in zip(again.results, found.results, strict=True):
        assert ours.correct.dtype == torch.bool
        assert torch.equal(ours.correct, theirs.correct)
        assert (ours.name, ours.settings, ours.seconds, ours.forwards, ours.backwards, ours.shared_with) == (
            theirs.name,
            theirs.settings,
            theirs.seconds,
            theirs.forwards,
            theirs.backwards,
            theirs.shared_with,
        )
    assert torch.equal(again.indices, found.indices)
    assert torch.equal(again.worst_case, found.worst_case)


def test_the_json_says_what_a_reader_needs(found: Evaluation) -> None:
    values = found.to_json()
    assert (values["norm"], values["eps"], values["n"], values["seed"], values["batch_size"]) == (
        "Linf",
        THREAT.eps,
        50,
        3,
        20,
    )
    assert values["hardware"]
    for row in values["results"]:
        assert row["accuracy"] == row["correct"].count("1") / 50
        assert row["interval"] == list(wilson_interval(row["correct"].count("1"), 50))
    worst = ["0" not in flags for flags in zip(*(row["correct"] for row in values["results"]), strict=True)]
    assert values["worst_case"]["accuracy"] == sum(worst) / 50
    assert values["worst_case"]["interval"] == list(wilson_interval(sum(worst), 50))
    assert len(set(values["indices"])) == 50


@pytest.mark.parametrize("version", [None, 0, 3, "1"])
def test_another_format_is_refused(version: object, found: Evaluation) -> None:
    with pytest.raises(InputError, match="evaluation format"):
        Evaluation.from_json({**found.to_json(), "format": version})


@pytest.mark.parametrize(
    ("indices", "written"),
    [([0, 1, 2, 3], "0-3"), ([7], "7-7"), ([5, 6, 7], "5-7"), ([0, 2, 3], [0, 2, 3]), ([3, 2], [3, 2])],
)
def test_consecutive_positions_are_written_as_a_range(
    indices: list[int], written: str | list[int], found: Evaluation
) -> None:
    part = replace(
        found,
        indices=torch.tensor(indices),
        results=tuple(replace(one, correct=one.correct[: len(indices)], answers=None) for one in found.results),
        labels=None,
    )
    values = part.to_json()
    assert values["indices"] == written
    assert Evaluation.from_json(values).indices.tolist() == indices


def test_a_file_of_the_first_format_is_read(found: Evaluation) -> None:
    values = found.to_json()
    assert isinstance(values["indices"], list)
    assert Evaluation.from_json({**values, "format": 1}).to_json() == values


def test_the_worst_case_goes_by_the_name_in_the_table(found: Evaluation) -> None:
    assert found.accuracy("worst case") == found.accuracy("worst-case")


def test_an_accuracy_that_was_not_measured_is_refused(found: Evaluation) -> None:
    with pytest.raises(InputError, match=r"no result 'pgd-20'; there are: clean, pgd-1, pgd-4, gama-2, worst-case"):
        found.accuracy("pgd-20")


def rendered(evaluation: Evaluation, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(evaluation_table(evaluation))
    return console.export_text()


def test_the_table_holds_every_number(found: Evaluation) -> None:
    text = rendered(found)
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert list(rows) == ["clean", "pgd-1", "pgd-4", "gama-2", "worst case"]
    for result in found.results:
        cells = [cell.strip() for cell in rows[result.name].split("│")[2:-1]]
        low, high = (100 * end for end in result.interval)
        expected = [f"{100 * result.accuracy:.2f}", f"{low:.1f} - {high:.1f}"]
        if result.shared_with is None:
            expected += [f"{result.seconds:.1f}", str(result.forwards), str(result.backwards)]
        else:
            expected += ["in pgd-4", "", ""]
        assert cells == expected
    assert f"{100 * found.accuracy('worst-case'):.2f}" in rows["worst case"]
    for said in ("50 test images", f"eps {THREAT.eps:g}", "seed 3"):
        assert said in text
    assert found.hardware in re.sub(r"\s+", " ", text)


def test_the_table_loses_no_digit_on_a_usual_terminal() -> None:
    many = AttackResult("autoattack-v1", {}, torch.ones(10_000, dtype=torch.bool), 86399.9, 987_654_321, 123_456_789)
    found = Evaluation((many,), torch.arange(10_000), 8 / 255, 0, 250, "CPU")
    text = rendered(found, width=80)
    for number in ("100.00", "100.0", "86399.9", "987,654,321", "123,456,789", "8/255", "10000"):
        assert number in text
