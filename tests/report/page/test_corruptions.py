"""Results on corrupted images in the overview and on the page."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corrupted_files import results
from figure_models import write_row
from report.report_runs import run

from nuat.data.corruptions import CORRUPTIONS
from nuat.figures.corruption_curves import MOST
from nuat.records.search import find_runs
from nuat.report.page.corruptions import corruption_tables, curves_of_group
from nuat.report.page.figure_selection import Picture, of_page
from nuat.report.page.groups import group, whatever_the_ball
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.overview import overviews
from nuat.report.page.table import DASH, Cell, Table
from nuat.report.page.text import csv_text, markdown


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two methods; the first has results on all corruptions, the second on two of them."""
    results(share=0.8).save(write_row(tmp_path / "a", "A", recipe="r") / "corruptions.json")
    results(("snow", "fog")).save(write_row(tmp_path / "b", "B", recipe="r") / "corruptions.json")
    return tmp_path


def overview(root: Path) -> Table:
    (table,) = overviews(group(find_runs([root]).runs))
    return table


def column(table: Table, head: str) -> list[Cell]:
    place = [column.head for column in table.columns].index(head)
    return [row.cells[place] for row in table.rows]


def pictures(root: Path) -> list[Picture]:
    found = find_runs([root])
    return [one for one in of_page(found, group(found.runs)) if one.title.startswith("Common corruptions")]


def test_the_overview_has_the_mean_of_all_and_of_no_fewer(two: Path) -> None:
    table = overview(two)
    cells = column(table, "Corruptions")
    low, high = results(share=0.8).interval()
    assert cells[0].value == pytest.approx(100 * results(share=0.8).accuracy())
    assert cells[0].note == f"{100 * low:.1f}{DASH}{100 * high:.1f}"
    assert cells[1].title == "not measured on these images"
    text = markdown([table])
    assert f"{100 * results(share=0.8).accuracy():.2f}" in text
    assert r"mean over 15 common corruptions at 5 severities, without an attack; files of \<x\>." in text
    assert "Left out, of other images or other corruptions: B." in text


@pytest.mark.parametrize("other", [{"seed": 5}, {"source": "library 1.0"}, {"images": "b" * 64}])
def test_methods_of_other_corrupted_images_are_named_and_left_out(tmp_path: Path, other: dict[str, Any]) -> None:
    for name, changes in (("a", {}), ("b", {}), ("c", other)):
        # the seed of ``results`` is that of the verdicts, not of the corruptions
        replace(results(), **changes).save(write_row(tmp_path / name, name.upper(), recipe="r") / "corruptions.json")
    assert [cell.missing for cell in column(overview(tmp_path), "Corruptions")] == [False, False, True]
    assert "other corruptions: C." in overview(tmp_path).notes[1]
    for name in "cd":  # now as many seeds, and more methods, have the other images
        folder = tmp_path / name if name == "c" else write_row(tmp_path / name, name.upper(), recipe="r")
        for seed in range(2):
            replace(results(), **other).save(folder / f"corruptions-{seed}.json")
    write_row(tmp_path / "e", "E", recipe="r")
    replace(results(), **other).save(tmp_path / "e" / "corruptions.json")
    assert [cell.missing for cell in column(overview(tmp_path), "Corruptions")] == [True, True, False, False, False]


def test_the_mean_over_seeds_says_how_many_have_results(tmp_path: Path) -> None:
    shares = (0.5, 0.8)
    for seed in range(3):
        folder = write_row(tmp_path / str(seed), "A", recipe="r", seed=seed)
        if seed < len(shares):
            results(share=shares[seed]).save(folder / "corruptions.json")
    (cell,) = column(overview(tmp_path), "Corruptions")
    found = [100 * results(share=share).accuracy() for share in shares]
    assert cell.value == pytest.approx(sum(found) / 2)
    assert cell.note == f"± {abs(found[0] - found[1]) / 2**0.5:.2f}, 2 of 3 seeds"


def test_the_clean_accuracy_is_that_beside_the_corruptions_where_nothing_was_attacked(tmp_path: Path) -> None:
    results().save(write_row(tmp_path / "a", "A", recipe="r", suites={}) / "corruptions.json")
    results().save(write_row(tmp_path / "b", "B", recipe="r") / "corruptions.json")
    alone, attacked = column(overview(tmp_path), "Clean")
    assert alone.value == pytest.approx(100 * results().accuracy("clean"))
    assert attacked.value == pytest.approx(90)


@pytest.mark.slow
def test_the_page_has_small_multiples_and_names_who_is_not_in_them(two: Path) -> None:
    (picture,) = pictures(two)
    assert picture.drawing is not None
    assert picture.caption.endswith("Left out, of other images or other corruptions: B.")
    results().save(two / "b" / "corruptions-2.json")
    (picture,) = pictures(two)
    assert "jpeg" in str(picture.drawing)
    assert "Left out" not in picture.caption


def test_a_figure_holds_eight_methods_and_counts_the_others(tmp_path: Path) -> None:
    for name in "ABCDEFGHIJ":
        results().save(write_row(tmp_path / name, name, recipe="r") / "corruptions.json")
    (one,) = group(find_runs([tmp_path]).runs)
    found = curves_of_group(one)
    assert found is not None
    assert len(found[0].models) == MOST
    assert found[1] == " 2 more methods are not drawn."


def test_the_table_has_each_corruption_and_marks_the_worst_of_each_method(tmp_path: Path) -> None:
    first, second = results(share=0.8), results(share=0.5, seed=3)
    first.save(write_row(tmp_path / "a", "A", recipe="r") / "corruptions.json")
    second.save(write_row(tmp_path / "b", "B", recipe="r") / "corruptions.json")
    (table,) = corruption_tables(group(find_runs([tmp_path]).runs))
    assert [row.cells[0].text for row in table.rows[:2]] == ["no corruption", "gaussian noise"]
    assert [row.cells[0].text for row in table.rows[-2:]] == ["jpeg compression", "mean of 15"]
    lines = list(csv.DictReader(io.StringIO(csv_text([table]))))
    assert len(lines) == 2 * 17
    for method, found in (("A", first), ("B", second)):
        of = {line["corruption"]: line for line in lines if line["method"] == method}
        least = min(CORRUPTIONS, key=found.accuracy)
        assert [name for name, line in of.items() if line["worst"] == "1"] == [least]
        assert f"**{100 * found.accuracy(least):.2f}** (" in markdown([table])
        assert rf"\textbf{{{100 * found.accuracy(least):.2f}}}" not in latex([table])  # n 40 carries no decimals
        for name, line in of.items():
            assert float(line["corruptions [%]"]) == pytest.approx(100 * found.accuracy(name))
            assert float(line["corruptions low [%]"]) == pytest.approx(100 * found.interval(name)[0])
        at = float(of["fog"]["corruptions severity 4 [%]"])
        assert at == pytest.approx(100 * found.accuracy("fog", 4))
        assert of["clean"]["corruptions severity 1 [%]"] == ""
    assert latex([table]).count(r"\textbf") == 2


@pytest.mark.usefixtures("undrawn")
def test_methods_for_several_balls_are_side_by_side_with_their_balls(tmp_path: Path) -> None:
    for name, settings in (("a", {}), ("b", {"threat.norm": "L2", "threat.eps": 1.5, "threat.pgd_alpha": 0.2})):
        results().save(run(tmp_path / name, settings=settings) / "corruptions.json")
    groups = group(find_runs([tmp_path]).runs)
    assert len(groups) == 2
    (table,) = corruption_tables(groups)
    assert sorted(column.sub for column in table.columns[2:]) == ["L2 1.5", "Linf 0.3"]
    (picture,) = pictures(tmp_path)
    assert picture.title == "Common corruptions: MNIST sample, small-cnn"
    found = curves_of_group(whatever_the_ball(groups)[0])
    assert found is not None
    assert sorted(model.name for model in found[0].models) == ["quickstart, L2 1.5", "quickstart, Linf 0.3"]
    assert '<section id="corruptions"' in render(find_runs([tmp_path]))


def test_seeds_without_results_are_said_once(tmp_path: Path) -> None:
    for seed in range(2):
        folder = write_row(tmp_path / str(seed), "A", recipe="r", seed=seed)
        if seed == 0:
            results().save(folder / "corruptions.json")
    (table,) = corruption_tables(group(find_runs([tmp_path]).runs))
    assert table.columns[-1].note == "1 of 2 seeds"
    assert not any("seeds" in cell.note for row in table.rows for cell in row.cells)


def test_runs_without_results_have_no_column(tmp_path: Path) -> None:
    write_row(tmp_path / "a", "A")
    assert overviews(group(find_runs([tmp_path]).runs)) == ()
