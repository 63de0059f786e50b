"""Captions, titles and heads of the page."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from report.report_runs import Page, campaign_row, evaluation_of_classes, run

from nuat.records.search import find_runs
from nuat.report.page.html import render

pytestmark = pytest.mark.usefixtures("undrawn")
LABELS = [0, 0, 1, 1]


def page(root: Path) -> str:
    return render(find_runs([root]))


@pytest.mark.parametrize(
    ("norm", "told"), [("Linf", "\u22120.3 black and +0.3 white"), ("L2", "the largest one black")]
)
def test_the_caption_of_examples_describes_the_picture(norm: str, told: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "one", settings={"threat.norm": norm})
    Image.effect_noise((90, 30), 60).save(folder / "examples.png")
    text = Page(page(tmp_path)).text
    assert "The prediction is below each image" in text
    assert f"A change of 0 is grey, {told}" in text


def test_overviews_of_two_campaigns_on_one_data_set_have_different_links(tmp_path: Path) -> None:
    for name in ("first", "second"):
        folder = campaign_row(tmp_path / name, "nuat-mnist-small-cnn", label="NuAT", campaign=name)
        evaluation_of_classes(folder / "evaluation.json", {"clean": LABELS, "pgd-100": LABELS}, LABELS, "ab")
    links = re.findall(r'<a href="#overview-\d">Overview</a> <span class="quiet">(.*?)</span>', page(tmp_path))
    assert len(links) == 2
    assert [link.rpartition(" (")[2] for link in links] == ["campaign first)", "campaign second)"]
    titles = re.findall(r"<figcaption><strong>(.*?)</strong>", page(tmp_path))
    assert len(set(titles)) == len(titles) == 4  # classes and calibration of each


def test_heads_break_between_words_and_commands_between_arguments(tmp_path: Path) -> None:
    folder = run(tmp_path / "one")
    evaluation_of_classes(folder / "evaluation.json", {"clean": LABELS, "gama-100": LABELS}, LABELS, "ab")
    text = page(tmp_path)
    assert '<span class="head"><span class="unbroken">GAMA-PGD-100</span></span>' in text
    assert "<code><span>nuat</span> <span>train</span> <span>quickstart</span>" in text


def test_a_run_that_was_resumed_once_was_so_1_time(tmp_path: Path) -> None:
    folder = run(tmp_path / "one")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "resume", "epoch": 2}) + "\n")
    assert "Resumed 1 time " in Page(page(tmp_path)).text
