"""Warnings of evaluations in every format of the report."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from corrupted_files import results
from report.report_runs import Page, campaign_row, evaluation, run

from nuat.errors import InputError
from nuat.records.evaluations import read_evaluation
from nuat.records.search import find_runs
from nuat.report.page.card import model_card
from nuat.report.page.groups import group, remarks
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.summary import lead
from nuat.report.page.table import tabulate
from nuat.report.page.text import csv_text, markdown

MASKED = "the gradient in the image is exactly 0 for 100 of 100 images (saturated or masked)"


@pytest.mark.usefixtures("undrawn")
def test_a_warning_stands_beside_the_models_name_in_every_format(tmp_path: Path) -> None:
    folder = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="Masked", warnings=(f"{MASKED}.",))
    campaign_row(tmp_path, "gat-mnist-small-cnn", label="Sound")
    found = find_runs([tmp_path])
    (one,) = groups = group(found.runs)
    tables = [tabulate(one)]
    note = f"evaluation-main.json: {MASKED}"
    page = Page(render(found))
    assert f"Masked {note}" in page.rows()["Masked"][0][0]
    assert note not in page.rows()["Sound"][0][0]
    assert f"- Masked: {note}\n" in markdown(tables).replace("\\", "")
    assert f"Masked: {note}.\\par" in latex(tables)
    remarked = {row["method"]: row["remarks"] for row in csv.DictReader(io.StringIO(csv_text(tables)))}
    assert remarked == {"Masked": note, "Sound": ""}
    assert f"\n\n{note}.\n\n" in model_card(next(r for r in found.runs if r.path == folder)).replace("\\", "")
    assert "One run drew warnings when evaluated: Masked." in lead(groups, 0)


@pytest.mark.usefixtures("undrawn")
def test_a_warning_is_no_markup(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="A", warnings=("a|b <script>alert(1)</script> 5 % _c_.",))
    found = find_runs([tmp_path])
    tables = [tabulate(one) for one in group(found.runs)]
    assert "<script>alert" not in render(found)
    assert "a|b <script>alert(1)</script> 5 % _c_" in Page(render(found)).text
    assert not re.search(r"(?<!\\)[|<]b? ?<?script", markdown(tables))
    assert r"5 \% \_c\_" in latex(tables)


def test_seeds_with_the_same_warning_give_it_once(tmp_path: Path) -> None:
    for seed, warnings in enumerate([("odd.", "alike.", "alike."), ("alike.",), (), ("alike.",)]):
        campaign_row(tmp_path, "nuat-mnist-small-cnn", label="A", seed=seed, warnings=warnings)
    (one,) = group(find_runs([tmp_path]).runs)
    (method,) = one.methods
    assert remarks(method) == ("evaluation-main.json: odd (seed 0)", "evaluation-main.json: alike (seeds 0, 1, 3)")


def test_files_with_the_same_warning_are_named_together(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    black_box = "black-box attacks alone (square): no gradient of the model was followed, so the accuracies are upper "
    black_box += "bounds of those under attacks by gradients"
    evaluation(folder / "evaluation.json", {"clean": 90, "square": 60}, warnings=(f"{black_box}.",))
    evaluation(folder / "evaluation-few.json", {"clean": 90, "pgd-5": 60}, warnings=(f"{MASKED}.",))
    (one,) = find_runs([tmp_path]).runs
    assert set(one.caveats) == {f"evaluation.json: {black_box}", f"evaluation-few.json: {MASKED}"}
    evaluation(folder / "evaluation.json", {"clean": 90, "fgsm": 60}, warnings=(f"{MASKED}.",))
    (one,) = find_runs([tmp_path]).runs
    assert one.caveats == (f"evaluation.json, evaluation-few.json: {MASKED}",)
    replace(results(), warnings=(f"{MASKED}.", "made of files.")).save(folder / "corruptions.json")
    (one,) = find_runs([tmp_path]).runs
    together = f"evaluation.json, evaluation-few.json, corruptions.json: {MASKED}"
    assert one.caveats == (together, "corruptions.json: made of files")


def test_warnings_that_are_no_list_of_texts_are_refused(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "evaluation.json", {"clean": 9})
    path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": "none"}))
    with pytest.raises(InputError, match="warnings"):
        read_evaluation(path)
