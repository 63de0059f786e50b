"""The classes of all methods side by side, with the same numbers in every format."""

import csv
import io
import re
from pathlib import Path

import pytest
from report.report_runs import Page, evaluation, evaluation_of_classes, run

from nuat.core.intervals import wilson_interval
from nuat.records.search import find_runs
from nuat.report.page.classes import class_tables
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.table import DASH, Table
from nuat.report.page.text import csv_text, markdown

LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
CLEAN = [0, 0, 0, 0, 1, 1, 1, 0]
RECIPES = ("quickstart", "quickstart-fgsm-at", "quickstart-standard")


def tables(root: Path) -> tuple[Table, ...]:
    return class_tables(group(find_runs([root]).runs))


def lines(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(tables(root)))))


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the rows of a Markdown table by the first."""
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for cells in found[2:]}


def trained(root: Path, name: str, *, recipe: str = "quickstart", seed: int = 0, **values: object) -> Path:
    settings = {"seed": seed, "data.train_limit": 100 + len(name)}  # methods differ in a setting
    folder = run(root / name, recipe=recipe, settings=settings)
    asked = {"predicted": {"clean": CLEAN, "pgd-100": CLEAN}, "labels": LABELS, "classes": ("cat", "dog"), **values}
    evaluation_of_classes(folder / "evaluation.json", **asked)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two methods: the first withstands 3 of 4 cats and 1 of 4 dogs, the second 1 cat and 3 dogs."""
    for recipe, robust in zip(RECIPES, ([0, 0, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1, 0]), strict=False):
        trained(tmp_path, recipe, recipe=recipe, predicted={"clean": CLEAN, "pgd-100": robust})
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_every_format_has_the_same_numbers_and_marks_the_worst_class_of_each_method(two: Path) -> None:
    def ends(correct: int) -> str:
        low, high = (100 * end for end in wilson_interval(correct, 4))
        return f"{low:.1f}{DASH}{high:.1f}"

    (table,) = tables(two)
    assert rows(markdown([table])) == {
        "cat": ["100.0", f"75.0 ({ends(3)})", "100.0", f"**25.0** ({ends(1)})"],
        "dog": ["75.0", f"**25.0** ({ends(1)})", "75.0", f"75.0 ({ends(3)})"],
    }
    assert r"| Class (n 4 each) | quickstart, clean | quickstart, attacked | quickstart-fgsm-at, clean |" in markdown(
        [table]
    )
    assert table.heading.endswith(": accuracy of each class under PGD-100")
    found = latex([table])
    assert re.search(r"dog & 75\.0 & \\textbf\{25\.0\} \{\\scriptsize \(4\.6--69\.9\)\} & 75\.0 & 75\.0 ", found)
    assert found.count(r"\textbf") == 2
    known = {(line["method"], line["class"]): line for line in lines(two)}
    assert len(known) == 4
    for (method, name), line in known.items():
        least = (method, name) in (("quickstart", "dog"), ("quickstart-fgsm-at", "cat"))
        assert (line["table"], line["worst"], line["pgd-100 n"]) == ("classes", str(int(least)), "4")
        assert float(line["pgd-100 [%]"]) == (25 if least else 75)
        assert float(line["pgd-100 high [%]"]) == pytest.approx(100 * wilson_interval(1 if least else 3, 4)[1])
        assert float(line["clean [%]"]) == (100 if name == "cat" else 75)
    assert known["quickstart", "dog"]["pgd-100 taken for"] == "cat"
    text = render(find_runs([two]))
    assert len(re.findall(r'<td class="num marked"[^>]*>25\.0<small>', text)) == 2
    assert "most often taken for cat, 3" in text
    assert '<a href="#classes">Classes</a>' in text


def test_the_images_of_all_seeds_count_together(tmp_path: Path) -> None:
    for seed, robust in enumerate((LABELS, [1, 1, 1, 1, 1, 1, 1, 1])):
        folder = run(tmp_path / f"seed-{seed}", settings={"seed": seed})
        evaluation_of_classes(folder / "evaluation.json", {"clean": CLEAN, "pgd-100": robust}, LABELS, ("cat", "dog"))
    run(tmp_path / "seed-2", settings={"seed": 2})
    (table,) = tables(tmp_path)
    assert rows(markdown([table])) == {
        "cat": ["100.0", f"**50.0** (21.5{DASH}78.5)"],
        "dog": ["75.0", f"100.0 (67.6{DASH}100.0)"],
    }
    assert table.columns[-1].note == "2 of 3 seeds"
    assert "those of all seeds together" in table.notes[0]


def test_of_many_classes_the_worst_of_each_method_in_turn_are_shown_and_the_csv_has_all(tmp_path: Path) -> None:
    labels = [i % 30 for i in range(60)]
    names = tuple(f"class {i}" for i in range(30))
    for recipe, failing in zip(RECIPES, (range(12), range(20, 28)), strict=False):
        robust = [29 if y in failing else y for y in labels]
        clean = [29 if y == 11 else y for y in labels]  # the worst of those that are alike under attack
        trained(
            tmp_path, recipe, recipe=recipe, labels=labels, classes=names, predicted={"clean": clean, "pgd-100": robust}
        )
    (table,) = tables(tmp_path)
    shown = list(rows(markdown([table])))
    assert shown == [f"class {i}" for i in (11, 20, 0, 21, 1, 22, 2, 23, 3, 24)]
    assert (
        table.notes[1]
        == "The 10 worst of 30 classes, taken from each method in turn; 20 are left out. The CSV has all."
    )
    assert re.findall(r"^class (\d+) &", latex([table]), re.MULTILINE) == [name.split()[1] for name in shown]
    assert len(lines(tmp_path)) == 60
    assert len({line["class"] for line in lines(tmp_path)}) == 30


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (4, [4]), (5, [2, 3]), (9, [3, 3, 3])])
def test_more_than_four_methods_share_several_tables(count: int, sizes: list[int], tmp_path: Path) -> None:
    for i in range(count):
        trained(tmp_path, "m" * (i + 1))
    found = tables(tmp_path)
    assert [len({column.model for column in table.columns if column.model}) for table in found] == sizes
    heads = [table.heading.rpartition("under PGD-100")[2] for table in found]
    assert heads == ([""] if len(sizes) == 1 else [f" ({i} of {len(sizes)})" for i in range(1, len(sizes) + 1)])
    labels = re.findall(r"\\label\{(.*)\}", latex(found))
    assert len(set(labels)) == len(sizes)
    assert len({line["method"] for line in lines(tmp_path)}) == count


def test_an_attack_without_predictions_gives_way_to_one_with_and_is_no_secret(tmp_path: Path) -> None:
    folder = trained(tmp_path, "one")
    evaluation(folder / "evaluation-2.json", {"clean": 90, "autoattack": 40})
    evaluation(run(tmp_path / "bare", recipe=RECIPES[1]) / "evaluation.json", {"clean": 90, "autoattack": 40})
    (table,) = tables(tmp_path)
    assert table.heading.endswith("under PGD-100")
    assert table.notes[-1] == "Without predictions under this attack: quickstart-fgsm-at."


def test_numbers_of_images_that_differ_are_said(tmp_path: Path) -> None:
    trained(tmp_path, RECIPES[0], labels=[0, 0, 0, 1, 1, 1, 1, 1])
    (table,) = tables(tmp_path)
    assert [column.head for column in table.columns] == ["Class", "Images", *2 * ["quickstart"]]
    assert [row.cells[1].text for row in table.rows] == ["3", "5"]
    trained(tmp_path, RECIPES[1], recipe=RECIPES[1])
    (table,) = tables(tmp_path)
    assert [row.cells[-1].note.partition(", ")[2] for row in table.rows] == ["n 4", "n 4"]


def test_records_without_predictions_have_no_table(tmp_path: Path) -> None:
    evaluation(run(tmp_path / "one") / "evaluation.json", {"clean": 90, "pgd-100": 50})
    assert tables(tmp_path) == ()


@pytest.mark.usefixtures("undrawn")
def test_a_table_of_classes_is_sorted_and_linked_like_any_other(two: Path) -> None:
    page = Page(render(find_runs([two])))
    table = next(rows for rows in page.tables if rows[0][0][0].startswith("Class"))
    assert [row[0] for row in table[2:]] == [("cat", "cat"), ("dog", "dog")]
    assert table[2][2][1] == "75.0"
