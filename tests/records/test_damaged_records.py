"""Real records, edited at random: each is read, or refused in one line, by everything that reads records."""

import copy
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuat.campaign import Campaign, Ledger, load
from nuat.errors import InputError
from nuat.evaluation.comparison import compare
from nuat.figures.cost import cost
from nuat.figures.training_curves import training_curves
from nuat.records.evaluations import evaluation_files, find_evaluation
from nuat.records.finished_runs import finished_runs
from nuat.records.runs import read_run
from nuat.records.search import find_runs
from nuat.records.settings import read_config, read_data_config
from nuat.report.campaigns import campaign_markdown
from nuat.report.page.card import model_card
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.summary import group_sentences
from nuat.report.page.table import tabulate
from nuat.report.page.text import csv_text, markdown

RESULTS = Path(__file__).parents[2] / "results"
FOLDERS = {
    "run": RESULTS / "quickstart",
    "shorter recipe": RESULTS / "nuat-mnist",
    "row": RESULTS / "mnist-small" / "nuat-mnist-small-cnn" / "seed-0",
}
DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
VALUES = (
    None, True, 0, -1, 1.5, 10**30, float("inf"), float("nan"), "", "L7", "9", "<b>\x00\x1b[31m\ud800", [], {}, [None],
    {"a": None}, DEEP,
)  # fmt: skip


def texts(folder: Path) -> dict[str, str]:
    """Return the records of a folder by their names."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".jsonl") and not path.name.startswith("analysis-")
    }


RECORDS = {name: texts(folder) for name, folder in FOLDERS.items()}


def places(value: Any) -> list[list[Any]]:
    """Return the ways to every value in a JSON value, but for the later ones of long lists."""
    found: list[list[Any]] = [[]]
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return found + [[key, *rest] for key, item in inner for rest in places(item)]


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw a folder, the name of a record in it, and its text after an edit."""
    folder = draw(st.sampled_from(list(RECORDS)))
    name = draw(st.sampled_from(list(RECORDS[folder])))
    text = RECORDS[folder][name]
    if draw(st.integers(0, 9)) == 0:  # the text itself
        at = draw(st.integers(0, len(text) - 1))
        return folder, name, text[:at] + draw(st.sampled_from(("", "\x00", "}", "9" * 5000, "\n"))) + text[at + 1 :]
    lines = text.splitlines() if name.endswith("l") else [text]
    line = draw(st.integers(0, len(lines) - 1))
    values = {"": json.loads(lines[line])}
    *way, last = draw(st.sampled_from([["", *way] for way in places(values[""])]))
    place: Any = values
    for key in way:
        place = place[key]
    if way and draw(st.integers(0, 4)) == 0:
        del place[last]
    else:
        place[last] = copy.copy(draw(st.sampled_from(VALUES)))
    lines[line] = json.dumps(values[""])
    return folder, name, "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folders() -> Iterator[dict[str, Path]]:
    """Return copies of the folders without weights and pictures."""
    with tempfile.TemporaryDirectory() as root:
        found = {}
        for name, folder in FOLDERS.items():
            found[name] = Path(root) / folder.relative_to(RESULTS)
            shutil.copytree(folder, found[name], ignore=shutil.ignore_patterns("*.png", "*.safetensors", "analysis-*"))
        yield found


@functools.cache
def campaign() -> Campaign:
    """Return the campaign that the row is of, with this row alone."""
    whole = load("mnist-small", seeds=(0,))
    name = FOLDERS["row"].relative_to(RESULTS / "mnist-small").as_posix()
    rows = tuple(row for row in whole.rows if row.name == name)
    assert rows
    return replace(whole, rows=rows)


def readers(folder: Path) -> Iterator[Any]:
    """Yield what reads the records of a run, ready to be called, but for the page."""
    yield lambda: read_run(folder)
    yield lambda: cost(finished_runs([folder]))
    yield lambda: training_curves(finished_runs([folder]))
    for file in evaluation_files(folder):
        yield lambda file=file: compare(find_evaluation(file), find_evaluation(file))
    yield lambda: read_data_config(folder / "config.json")
    if folder.name == "quickstart":  # the others have settings of older versions
        yield lambda: read_config(folder / "config.json")
    yield lambda: campaign_markdown(campaign(), Ledger(folder.parents[1]))
    yield lambda: show(folder)


def page(folder: Path) -> Iterator[Any]:
    """Yield what draws the page of a run."""
    yield lambda: render(find_runs([folder])).encode()


def show(folder: Path) -> None:
    """Write every form of the report but the page."""
    found = find_runs([folder])
    groups = group(found.runs)
    tables = [tabulate(one) for one in groups]
    for text in (markdown(tables), csv_text(tables), latex(tables), model_card(found.runs[0])):
        text.encode()
        assert not set(text) & set(map(chr, (0, 27)))
    assert all(group_sentences(one) for one in groups)


def read_or_refused(folder: Path, name: str, text: str, acts: Callable[[Path], Iterator[Any]]) -> None:
    kept = (folder / name).read_text(encoding="utf-8")
    try:
        (folder / name).write_text(text, encoding="utf-8")
        for act in acts(folder):
            told = ""
            try:
                act()
            except InputError as error:
                told = str(error)
            assert told.isprintable()  # so it is one line, too
    finally:
        (folder / name).write_text(kept, encoding="utf-8")


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edit=edited())
def test_an_edited_record_is_read_or_refused_in_one_line(folders: dict[str, Path], edit: tuple[str, str, str]) -> None:
    folder, name, text = edit
    read_or_refused(folders[folder], name, text, readers)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edit=edited())
def test_a_page_of_an_edited_record_is_drawn_or_refused(folders: dict[str, Path], edit: tuple[str, str, str]) -> None:
    folder, name, text = edit
    read_or_refused(folders[folder], name, text, page)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_records_as_they_are_are_read(folders: dict[str, Path], folder: str) -> None:
    for act in readers(folders[folder]):
        act()
