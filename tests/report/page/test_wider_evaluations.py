"""Evaluations in more balls than a run was trained for count in its own ball as if they were of that ball alone."""

from pathlib import Path

import pytest
from report.report_runs import Page, evaluation_of_classes, run

from nuat.records.search import find_runs
from nuat.report.page.card import model_card
from nuat.report.page.classes import class_tables
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.overview import overviews
from nuat.report.page.table import tabulate
from nuat.report.page.text import markdown

LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
CLEAN = [0, 0, 0, 0, 1, 1, 1, 0]
OWN = {"clean": CLEAN, "pgd-100": [0, 0, 0, 1, 1, 1, 1, 0], "gama-100": [0, 0, 1, 0, 1, 0, 0, 0]}
"""Linf withstands 2 of 4 cats and 1 of 4 dogs."""
L2 = {"pgd-100": [1, 1, 1, 1, 1, 1, 1, 0], "gama-100": [1, 1, 1, 1, 1, 1, 1, 0]}
"""L2 breaks every cat, so cats are the worst class of the union."""


def prefixed(norm: str, found: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name if name == "clean" else f"{norm}:{name}": said for name, said in found.items()}


def attacked(root: Path, predicted: dict[str, list[int]], *, trained: str | None = None, **ball: object) -> Path:
    """Write a run trained in Linf 0.3, and in the balls ``trained``, with one evaluation."""
    folder = run(root / "run", settings={"threat.also": trained} if trained else {})
    evaluation_of_classes(folder / "evaluation.json", predicted, LABELS, ("cat", "dog"), **ball)  # type: ignore[arg-type]
    return folder


def tables(folder: Path) -> str:
    groups = group(find_runs([folder]).runs)
    return markdown([*map(tabulate, groups), *class_tables(groups)])


def overview(folder: Path) -> dict[str, str]:
    (table,) = overviews(group(find_runs([folder]).runs))
    (row,) = table.rows
    return {f"{column.head} {column.sub}".strip(): f"{cell.text} {cell.note}" for column, cell in zip(
        table.columns, row.cells, strict=True
    )}  # fmt: skip


def of_classes(folder: Path) -> str:
    """Return the part of the card on the classes and the calibration."""
    (found,) = find_runs([folder]).runs
    return model_card(found).partition("\n\nWithin ")[2].partition("\n\nIt was not examined")[0]


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    return attacked(tmp_path / "alone", OWN)


WIDER = {
    "first": (OWN | prefixed("L2", L2), {"also": "L2:1.5"}),
    "further": (
        {"clean": CLEAN, **L2, **prefixed("Linf", {name: OWN[name] for name in L2})},
        {"norm": "L2", "eps": 1.5, "also": "L1:10,Linf:0.3"},
    ),
}


@pytest.mark.parametrize("name", WIDER)
def test_the_own_ball_of_a_wider_evaluation_counts_as_if_alone(name: str, alone: Path, tmp_path: Path) -> None:
    predicted, ball = WIDER[name]
    wider = attacked(tmp_path / "wider", predicted, **ball)
    told = tables(wider)
    assert told == tables(alone)
    assert "| quickstart | 0 | 87.50 (52.9\u201397.8) | 75.00 (" in told
    assert "| cat | 100.0 | 50.0 (" in told
    assert "| dog | 75.0 | **25.0** (" in told
    mine, theirs = overview(wider), overview(alone)
    details = ("Worst class", "Calibration error clean", "Calibration error attacked", "Clean", "Linf 0.3")
    assert {key: mine[key] for key in details} == {key: theirs[key] for key in details}
    assert mine["Worst class"].startswith("25.0 dog")
    assert mine["L2 1.5"].startswith("37.50 ")
    assert of_classes(wider) == of_classes(alone)
    assert of_classes(wider).startswith("Linf eps 0.3: Worst case, each class:")
    assert "Worst class in the worst case: dog, 25.0 %" in of_classes(wider)


def test_a_card_tells_the_worst_case_of_the_own_ball_from_that_over_norms(tmp_path: Path) -> None:
    (found,) = find_runs([attacked(tmp_path, OWN | prefixed("L2", L2), also="L2:1.5")]).runs
    rows = [[cell.strip() for cell in line.split("|")] for line in model_card(found).splitlines()]
    worst = {(row[1], row[5]): row[2] for row in rows if len(row) > 5 and row[1].startswith("Worst case")}
    assert worst == {
        ("Worst case over norms", "Linf 0.3 and L2 1.5"): "12.50",
        ("Worst case", "Linf 0.3"): "37.50",
    }
    card = model_card(found)
    assert "under each of PGD-100, GAMA-PGD-100." in card
    assert "under each of PGD-100, Linf, GAMA-PGD-100, Linf, PGD-100, L2, GAMA-PGD-100, L2." in card


def test_two_balls_of_three_count_as_their_union(tmp_path: Path) -> None:
    union = OWN | prefixed("L2", L2)
    alone = attacked(tmp_path / "alone", union, trained="L2:1.5", also="L2:1.5")
    three = union | prefixed("L1", {name: [1 - y for y in LABELS] for name in L2})
    wider = attacked(tmp_path / "wider", three, trained="L2:1.5", also="L1:10,L2:1.5")
    assert tables(wider) == tables(alone)
    assert "| cat | 100.0 | **0.0** (" in tables(wider)
    assert of_classes(wider) == of_classes(alone)
    assert overview(wider)["Linf 0.3 and L2 1.5"] == overview(alone)["Linf 0.3 and L2 1.5"]
    assert overview(wider)["Linf 0.3 and L1 10, L2 1.5"].startswith("0.00 ")


def test_another_radius_of_the_same_norm_is_not_the_own_ball(tmp_path: Path) -> None:
    folder = attacked(tmp_path, OWN | prefixed("L2", L2), eps=0.4, also="L2:1.5")
    assert "Clean" not in tables(folder)
    assert "Worst class" not in overview(folder)
    assert of_classes(folder) == ""


@pytest.mark.usefixtures("undrawn")
def test_a_page_says_the_ball_of_the_worst_case(tmp_path: Path) -> None:
    text = Page(render(find_runs([attacked(tmp_path, OWN | prefixed("L2", L2), also="L2:1.5")]))).text
    assert "In the worst case of all attacks within Linf 0.3 on 8 test images quickstart is right on 37.50 %" in text
    assert "accuracy of each class in the worst case" in text
