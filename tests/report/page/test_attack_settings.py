"""Attacks that ran with other settings are not ranked against each other."""

from pathlib import Path

import pytest
from report.report_runs import campaign_row

from nuat.records.search import find_runs
from nuat.report.page.groups import Group, group
from nuat.report.page.latex import latex
from nuat.report.page.summary import finding, group_sentences, strongest
from nuat.report.page.table import tabulate
from nuat.report.page.text import markdown


def of_steps(root: Path, *steps: float, correct: dict[str, int] | None = None) -> Group:
    recipes = ("nuat-mnist-small-cnn", "gat-mnist-small-cnn", "fgsm-at-mnist-small-cnn")
    for i, (recipe, step) in enumerate(zip(recipes, steps, strict=False)):
        settings = {"pgd-20": {"alpha": step, "steps": 20}}
        found = {"pgd-20": 50 + i, **(correct or {})}
        campaign_row(root, recipe, label="ABC"[i], correct=found, attack_settings=settings)
    (one,) = group(find_runs([root]).runs)
    return one


def test_rows_of_unlike_settings_are_not_ranked_and_are_named(tmp_path: Path) -> None:
    one = of_steps(tmp_path, 0.01, 0.075)
    table = tabulate(one)
    note = "PGD-20 ran with different settings, and rows of other settings are not ranked: "
    rows = ("A: alpha 0.01", "B: alpha 0.075")
    assert any(said.startswith(note) and all(row in said for row in rows) for said in table.notes)
    assert "steps" not in next(said for said in table.notes if said.startswith(note))
    assert r"\textbf" not in latex([table])
    assert "PGD-20 ran with different settings" in markdown([table]).replace("\\", "")
    assert strongest(one) is None
    assert finding(one) == "No attack ran with the same settings in all runs, so none is ranked."
    assert finding(one) in group_sentences(one)


def test_rows_of_like_settings_are_ranked_among_themselves(tmp_path: Path) -> None:
    text = latex([tabulate(of_steps(tmp_path, 1, 1.0, 2.0))])
    assert r"\textbf{51}" in text
    assert r"\textbf{50}" not in text
    assert r"\textbf{52}" not in text


def test_an_attack_that_ran_alike_is_ranked_by(tmp_path: Path) -> None:
    one = of_steps(tmp_path, 0.01, 0.075, correct={"fgsm": 60})
    assert strongest(one) == ("test", "fgsm")


@pytest.mark.parametrize("steps", [(0.01, 0.01), (1, 1.0)])
def test_equal_settings_have_no_note(steps: tuple[float, float], tmp_path: Path) -> None:
    one = of_steps(tmp_path, *steps)
    assert "different settings" not in markdown([tabulate(one)])
    assert strongest(one) == ("test", "pgd-20")
