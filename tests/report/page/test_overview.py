"""The overview: a row for each method, a column for each ball, the worst class and the calibration."""

import csv
import io
from pathlib import Path

import pytest
from report.report_runs import Page, campaign_row, evaluation, evaluation_of_classes, run

from nuat.commands.report import report
from nuat.records.search import find_runs
from nuat.report.page.card import model_card
from nuat.report.page.classes import class_tables
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.overview import overviews
from nuat.report.page.summary import strongest
from nuat.report.page.table import DASH, Table, tabulate
from nuat.report.page.text import csv_text, markdown

HOSTILE = "<script>alert(1)</script>|$x_1$ \\input{a}%\n[b](javascript:c)\x1b[31m"
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
CLEAN, ROBUST = [0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0, 0, 0]


def tables(*places: Path) -> tuple[Table, ...]:
    return overviews(group(find_runs(list(places)).runs))


def lines(*places: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(tables(*places)))))


def with_classes(folder: Path, *, classes: tuple[str, ...] = ("cat", "dog"), **changes: object) -> Path:
    values = {"predicted": {"clean": CLEAN, "pgd-100": ROBUST}, "labels": LABELS, "classes": classes, **changes}
    evaluation_of_classes(folder / "evaluation.json", **values)  # type: ignore[arg-type]
    return folder


def test_records_without_more_to_say_have_none(tmp_path: Path) -> None:
    campaign_row(tmp_path / "c", "nuat-mnist-small-cnn", label="NuAT")
    campaign_row(tmp_path / "c", "gat-mnist-small-cnn", label="tuned", images="validation", campaign="tuning")
    assert tables(tmp_path) == ()


@pytest.mark.usefixtures("undrawn")
def test_the_page_of_such_records_is_without(tmp_path: Path) -> None:
    campaign_row(tmp_path / "c", "nuat-mnist-small-cnn", label="NuAT")
    assert "Overview" not in render(find_runs([tmp_path]))


def test_a_column_for_each_ball_with_the_strongest_attack_there(tmp_path: Path) -> None:
    folder = run(tmp_path / "linf")
    evaluation(folder / "evaluation.json", {"clean": 90, "pgd-20": 60, "gama-100": 50})
    evaluation(folder / "evaluation-2.json", {"clean": 91, "pgd-100": 30}, n=200, eps=0.4)
    other = run(tmp_path / "l2", settings={"threat.norm": "L2", "threat.eps": 1.5, "threat.pgd_alpha": 0.2})
    evaluation_of_classes(other / "evaluation.json", {"pgd-100": ROBUST}, LABELS, "ab", norm="L2", eps=1.5)
    evaluation(other / "evaluation-2.json", {"clean": 80, "pgd-20": 20, "gama-100": 10})
    (table,) = tables(tmp_path)
    heads = [column.head for column in table.columns]
    assert heads[:6] == ["Method", "Trained for", "Clean", "L2 1.5", "Linf 0.3", "Linf 0.4"]
    assert table.heading.endswith(": overview")
    one, two = sorted(lines(tmp_path), key=lambda line: line["trained for"])
    assert (one["trained for"], two["trained for"]) == ("L2 1.5", "Linf 0.3")
    assert (one["clean [%]"], two["clean [%]"]) == ("80.0", "45.5")  # over the most images
    assert (one["L2 eps 1.5 [%]"], two["L2 eps 1.5 [%]"]) == ("50.0", "")
    assert (one["Linf eps 0.3 [%]"], two["Linf eps 0.3 [%]"]) == ("10.0", "50.0")
    assert (one["Linf eps 0.4 [%]"], two["Linf eps 0.4 [%]"]) == ("", "15.0")
    assert (one["worst class [%]"], one["worst class name"], two["worst class [%]"]) == ("25.0", "b", "")


@pytest.mark.usefixtures("undrawn")
def test_a_union_has_a_column_for_each_ball_and_one_for_the_worst_of_them(tmp_path: Path) -> None:
    folder = run(tmp_path / "union", settings={"threat.also": "L2:1.5"})
    right = LABELS
    predicted = {
        "clean": right, "pgd-20": right, "autoattack": [1, 0, 0, 0, 1, 1, 1, 1],
        "L2:pgd-20": [0, 0, 0, 0, 0, 0, 1, 1], "L2:autoattack": [0, 0, 0, 0, 0, 0, 0, 1],
    }  # fmt: skip
    with_classes(folder, predicted=predicted, also="L2:1.5")
    alone = run(tmp_path / "alone", settings={"threat.norm": "L2", "threat.eps": 1.5, "threat.pgd_alpha": 0.2})
    evaluation_of_classes(
        alone / "evaluation.json", {"clean": CLEAN, "autoattack": ROBUST}, LABELS, "ab", norm="L2", eps=1.5
    )
    (table,) = tables(tmp_path)
    found = {column.head: column.note for column in table.columns}
    assert list(found)[2:6] == ["Clean", "L2 1.5", "Linf 0.3", "Linf 0.3 and L2 1.5"]
    assert found["L2 1.5"] == "AutoAttack, n 8"
    assert found["Linf 0.3 and L2 1.5"] == "Worst case over norms, n 8"
    one, two = sorted(lines(tmp_path), key=lambda line: line["trained for"])
    assert (one["L2 eps 1.5 [%]"], two["L2 eps 1.5 [%]"]) == ("50.0", "62.5")
    assert (one["Linf eps 0.3 [%]"], two["Linf eps 0.3 [%]"]) == ("", "87.5")
    assert (one["Linf eps 0.3 and L2:1.5 [%]"], two["Linf eps 0.3 and L2:1.5 [%]"]) == ("", "50.0")
    assert (one["norm"], one["eps"]) == ("", "")
    assert (two["worst class [%]"], two["worst class name"]) == ("25.0", "dog")  # 100 and 75 in each ball alone
    runs = find_runs([folder])
    (only,) = group(runs.runs)
    assert strongest(only) == ("test", "worst-case")  # AutoAttack is in one of the balls
    assert [c.head for c in tabulate(only).columns][2:5] == ["Clean", "PGD-20, L2", "PGD-20, Linf"]
    page, card = Page(render(runs)).text, model_card(runs.runs[0])
    assert "Linf eps 0.3 and L2 1.5: accuracy of each class in the worst case" in page
    assert "AutoAttack, Linf" in page
    assert "Linf 0.3 and L2:1.5" not in page
    assert "each of PGD-20, Linf, AutoAttack, Linf, PGD-20, L2, AutoAttack, L2." in card
    assert "| AutoAttack, Linf | 87.50 |" in card


def test_the_worst_class_and_the_calibration_are_those_of_the_evaluation(tmp_path: Path) -> None:
    folder = with_classes(run(tmp_path / "one"))
    (line,) = lines(tmp_path)
    found = find_runs([folder]).runs[0].evaluations[0].evaluation
    assert (line["worst class name"], line["worst class [%]"], line["worst class n"]) == ("dog", "25.0", "4")
    assert line["table"] == "overview"
    assert float(line["calibration error clean [%]"]) == pytest.approx(100 * found.calibration_error("clean"))
    assert float(line["calibration error attacked [%]"]) == pytest.approx(100 * found.calibration_error("pgd-100"))


def test_the_images_of_a_class_are_those_of_all_seeds(tmp_path: Path) -> None:
    for seed, robust in enumerate((ROBUST, [1, 1, 1, 1, 1, 1, 1, 1])):
        folder = run(tmp_path / f"seed-{seed}", settings={"seed": seed})
        with_classes(folder, predicted={"clean": CLEAN, "pgd-100": robust})
    (line,) = lines(tmp_path)
    assert (line["worst class name"], line["worst class [%]"], line["worst class n"]) == ("cat", "37.5", "8")
    assert float(line["calibration error attacked sd [%]"]) > 0


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_of_classes_are_text_everywhere(tmp_path: Path) -> None:
    folder = with_classes(run(tmp_path / "one"), classes=("=cmd()", HOSTILE))
    found = find_runs([folder])
    text = render(found)
    assert "<script>alert" not in text
    assert "Overview" in Page(text).text
    assert "accuracy of each class under PGD-100" in Page(text).text
    shown = markdown(tables(folder))
    assert "| Calibration error, clean | Calibration error, attacked |" in shown
    assert "\\<script\\>" in shown
    assert all(line.count(" | ") == shown.splitlines()[2].count(" | ") for line in shown.splitlines()[2:5])
    assert r"\textless{}script" in latex(tables(folder))
    assert r"\input" not in latex(tables(folder))
    card = model_card(found.runs[0])
    assert "<script>" not in card
    assert r"\<script\>" in card
    classes = class_tables(group(found.runs))
    assert r"\<script\>" in markdown(classes)
    assert r"\input" not in latex(classes)
    assert "'=cmd()" in csv_text(classes)
    for written in (text, shown, latex(tables(folder)), csv_text(tables(folder)), card, markdown(classes)):
        assert "\x1b" not in written


@pytest.mark.usefixtures("undrawn")
def test_long_names_of_classes_are_cut(tmp_path: Path) -> None:
    folder = with_classes(run(tmp_path / "one"), classes=("c" * 100, "d" * 100))
    found = find_runs([folder])
    for written in (Page(render(found)).text, markdown(tables(folder)), model_card(found.runs[0])):
        assert "d" * 39 + "\u2026" in written
        assert "d" * 40 not in written
    assert "c" * 40 not in model_card(found.runs[0])
    assert f"; most often taken for {'d' * 39}\u2026," in render(found)


def test_a_card_names_each_class_and_the_calibration(tmp_path: Path) -> None:
    card = model_card(find_runs([with_classes(run(tmp_path / "one"), temperature=1.5)]).runs[0])
    assert "Within Linf eps 0.3: PGD-100, each class:" in card
    assert "| dog | 75.0 | 25.0 |" in card
    assert "| 4 | cat |" in card
    assert "\n\nWorst class under PGD-100: dog, 25.0 % (4.6 - 69.9, n 4), most often taken for cat.\n\n" in card
    assert "Calibration error (15 bins):" in card
    assert "at temperature 1.5." in card


def test_a_card_tells_the_clean_images_of_two_evaluations_once(tmp_path: Path) -> None:
    folder = run(tmp_path / "one")
    evaluation(folder / "evaluation.json", {"clean": 90, "pgd-100": 60})
    evaluation(folder / "evaluation-autoattack.json", {"clean": 90, "autoattack": 50})
    assert model_card(find_runs([folder]).runs[0]).count("| Clean |") == 1
    for clean, others in ((89, {}), (90, {"begin": 100})):
        evaluation(folder / "evaluation-autoattack.json", {"clean": clean, "autoattack": 50}, **others)
        assert model_card(find_runs([folder]).runs[0]).count("| Clean |") == 2


@pytest.mark.usefixtures("undrawn")
def test_of_many_classes_a_page_and_a_card_show_the_worst_ten(tmp_path: Path) -> None:
    labels = [i % 12 for i in range(24)]
    predicted = {"clean": labels, "pgd-100": [0 if y < 11 else y for y in labels]}
    names = tuple(f"class {i}" for i in range(12))
    folder = with_classes(run(tmp_path / "one"), predicted=predicted, labels=labels, classes=names)
    page, card = Page(render(find_runs([folder]))).text, model_card(find_runs([folder]).runs[0])
    assert "The 10 worst of 12 classes" in page
    assert "the worst 10 of 12 classes:" in card
    assert "class 10" in page
    assert f"class 1 and 9 more, 0.0{DASH}65.8" in page
    assert "| class 11 |" not in card


def test_the_command_writes_it_first_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_classes(run(tmp_path / "one"))
    for kind, first in (("markdown", "overview"), ("csv", "worst class"), ("latex", "overview.}")):
        assert report([str(folder), "--format", kind]) == 0
        out = capsys.readouterr().out
        assert first in out
        assert out.index(first) < len(out) / 2
