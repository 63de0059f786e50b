"""The page as a whole: nothing hostile gets through, nothing outside is asked for, broken folders are named."""

import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from report.report_runs import Page, campaign_row, evaluation, run, write

from nuat.commands.report import report
from nuat.errors import InputError, printable
from nuat.figures.catalogue import FIGURES
from nuat.figures.training_curves import TrainingCurves, curves_of
from nuat.records.diagnoses import Diagnosis, RecordedVerdict
from nuat.records.search import find_runs
from nuat.report.escaping import escape_latex
from nuat.report.page.card import model_card
from nuat.report.page.changes import commands
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.summary import lead
from nuat.report.page.table import tabulate
from nuat.report.page.text import csv_text, markdown

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}|$x_1$ \\input{a}%\n[b](javascript:c)"
LOADS = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")


def failing(error: OSError) -> Callable[..., None]:
    def fail(*arguments: object, **keywords: object) -> None:
        raise error

    return fail


def references(page: Page) -> list[str]:
    """Return whatever elements would load, but for what lies in the page itself."""
    found = [attributes[name] for _, attributes in page.elements for name in LOADS if name in attributes]
    return [value for value in found if not value.startswith(("#", "data:"))]


def hostile_campaign(root: Path) -> Path:
    folder = campaign_row(root / "a \"><i>' & b", "nuat-mnist-small-cnn", label=HOSTILE, campaign="<b>versus</b>")
    values = json.loads((folder / "config.json").read_text())
    values["config"]["data"]["path"] = "<u>x</u>.npz"
    values["config"]["precision"] = "</style><script>alert(3)</script>"
    write(folder / "config.json", values)
    environment = json.loads((folder / "environment.json").read_text())
    write(
        folder / "environment.json",
        environment | {"hardware": "<svg onload=alert(4)>", "command": ["nuat", "</code>$(x)"]},
    )
    alarm = {"monitor": "<em>", "epoch": 1, "message": "</p><script>alert(5)</script>"}
    write(folder / "row.json", json.loads((folder / "row.json").read_text()) | {"alarms": [alarm]})
    other = campaign_row(root, "gat-mnist-small-cnn", label="GAT", campaign="<b>versus</b>")
    verdict = {"check": "<q>", "status": "PASS", "threshold": "a < b", "meaning": "<script>alert(6)</script>"}
    write(other / "diagnosis.json", {"verdicts": [verdict], "evaluation": {"n": 5}, "left_out": ["<s>"]})
    return folder


@pytest.mark.slow
def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile_campaign(tmp_path)
    text = render(find_runs([tmp_path]))
    page = Page(text)
    assert [tag for tag, _ in page.elements if tag in ("script", "i", "b", "u", "em", "q", "s")] == ["script"]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "7*7" in page.text  # as it was written, not as 49
    assert " ".join(HOSTILE.split()) in page.text
    for told in (
        "<svg onload=alert(4)>",
        "<b>versus</b>",
        "<script>alert(6)</script>",
        "</p><script>alert(5)</script>",
    ):
        assert told in page.text, told
    assert references(page) == []


def test_hostile_names_cannot_break_the_tables(tmp_path: Path) -> None:
    hostile_campaign(tmp_path)
    tables = [tabulate(one) for one in group(find_runs([tmp_path]).runs)]
    rows = [line for line in markdown(tables).splitlines() if line.startswith("|")]
    for one in tables:
        bars = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert bars >= {len(one.columns) + 1}
        assert len(bars) == len({len(table.columns) for table in tables})
    assert not any(re.search(r"(?<!\\)<", row) for row in rows)
    assert "](javascript" not in markdown(tables).replace("\\]", "")
    body = [line for line in latex(tables).splitlines() if line.endswith((r" \\", r"\par")) and "medskip" not in line]
    assert sum(line.endswith(r"\par") for line in body) > 2
    for line in body:
        assert r"\input" not in line
        assert line.count("{") == line.count("}")
        assert not re.search(r"(?<!\\)[#_%]", line)
    assert printable(HOSTILE) in csv_text(tables).replace('""', '"')


def test_latex_escapes_every_special() -> None:
    assert escape_latex("a_b & 50 % of $x$ {#} ~^\\ <|>") == (
        r"a\_b \& 50 \% of \$x\$ \{\#\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textbar{}"
        r"\textgreater{}"
    )
    assert escape_latex("[2em]") == "{[}2em]"


@pytest.mark.slow
def test_nothing_outside_the_page_is_asked_for(tmp_path: Path) -> None:
    for seed in range(2):
        folder = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=seed)
        Image.effect_noise((1500, 400), 90).save(folder / "examples.png")
    campaign_row(tmp_path, "gat-mnist-small-cnn", label="GAT")
    text = render(find_runs([tmp_path]))
    page = Page(text)
    assert references(page) == []
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    policy = next(
        attributes["content"]
        for tag, attributes in page.elements
        if "content-security-policy" in attributes.get("http-equiv", "").lower()
    )
    assert policy.startswith("default-src 'none'")
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names) > 20  # matplotlib names its parts alike in every drawing
    used = re.findall(r"url\(#([^)]+)\)", text) + [
        a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")
    ]
    assert used
    assert set(used) <= set(names)
    assert [a["width"] for tag, a in page.elements if tag == "img"] == ["1200", "1200"]
    assert all(a["alt"] for tag, a in page.elements if tag == "img")


@pytest.mark.slow
def test_an_analysis_is_drawn_and_a_broken_one_named(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    (folder / "analysis-broken.json").write_text("{")
    source = Path(__file__).parents[2] / "results" / "quickstart" / "metrics.jsonl"
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    TrainingCurves(runs=(curves_of(lines, "a $\\frac{ name", 0, {}),)).save(folder / "analysis-training.json")
    page = Page(render(find_runs([folder])))
    assert "Training curves. Losses, validation accuracies" in page.text
    assert "analysis-broken.json: not JSON" in page.text


@pytest.mark.slow
def test_a_dark_page_keeps_colours_that_stand_for_values(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    committed = Path(__file__).parents[2] / "results" / "figures"
    for name in ("confusion-cifar10-plain", "eps-curve-mnist-small"):
        (folder / f"analysis-{name}.json").write_text((committed / f"analysis-{name}.json").read_text())
    text = render(find_runs([folder]))
    drawings = re.findall(
        r'<div class="scroll drawing( colour-map)?" tabindex="0"><(?:svg|img)[^>]*(?:label|alt)="([^"]*)"', text
    )
    kept = {title: bool(colours) for colours, title in drawings}
    assert kept[FIGURES["confusion"].title]
    assert not kept[FIGURES["eps-curve"].title]
    (inverted,) = re.findall(r"^ *(.*)\{ filter: invert", text, re.MULTILINE)
    assert all(":not(.colour-map)" in selector for selector in inverted.split(","))


def test_analyses_are_found_in_every_folder_that_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    campaign_row(Path("c"), "nuat-mnist-small-cnn", label="NuAT")
    for folder in ("c", "c/figures/deep", "beside", "c/.hidden"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "analysis-x.json").write_text("{")
    found = find_runs([Path("c"), Path("beside"), tmp_path / "c"])
    assert [str(path) for path in found.analyses] == [
        "c/analysis-x.json", "c/figures/deep/analysis-x.json", "beside/analysis-x.json",
    ]  # fmt: skip
    with pytest.raises(InputError, match="beside: holds no run"):
        find_runs([Path("beside")])


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_record_is_shown_with_the_title_and_caption_of_its_figure(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    source = Path(__file__).parents[2] / "results" / "quickstart" / "metrics.jsonl"
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    TrainingCurves(runs=(curves_of(lines, "a", 0, {}),)).save(folder / "analysis-training.json")
    figure = FIGURES["training"]
    told = Page(render(find_runs([folder]))).text
    assert f"{figure.title}. {figure.caption} From a/analysis-training.json" in told


@pytest.mark.slow
def test_no_path_of_the_machine_is_in_the_page(tmp_path: Path) -> None:
    folder = run(tmp_path / "one" / "a", settings={"data.cache": str(tmp_path / "cache"), "data.path": "/x/y/m.npz"})
    environment = json.loads((folder / "environment.json").read_text())
    command = ["/x/bin/nuat", "train", "quickstart", "--out", "/x/out", "--data.path=/x/y/m.npz"]
    write(folder / "environment.json", environment | {"command": command})
    write(folder / "split.json", {"source": "/x/y/m.npz", "train": 10})
    evaluation(folder / "evaluation-more.json", {"clean": 90})
    evaluation(run(tmp_path / "two" / "b") / "evaluation.json", {"clean": 90})
    (folder / "analysis-broken.json").write_text("{")
    found = find_runs([tmp_path / "one", tmp_path / "two" / "b"])
    text = render(found)
    assert str(tmp_path) not in text
    assert "/x/" not in text
    assert "nuat train quickstart --out .../out --data.path=.../m.npz" in Page(text).text
    assert "nuat evaluate one/a --attacks clean" in Page(text).text
    card = model_card(found.runs[0])
    assert str(tmp_path) not in card
    assert "/x/" not in card


def test_a_card_counts_the_validation_images_of_a_fraction(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", settings={"data.validation": 0.1})
    write(folder / "split.json", {"source": "folder of classes photos", "train": 210, "validation": 24, "test": 60})
    card = model_card(find_runs([tmp_path]).runs[0])
    assert "210 training images; 24 images held out of them chose the best epoch." in card


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_tuning_comes_last_and_is_told_apart(tmp_path: Path) -> None:
    alarm = {"monitor": "overfitting", "epoch": 1, "message": "far"}
    for peak in ("0.1", "0.2"):
        campaign_row(
            tmp_path / f"tuning {peak}", "gat-mnist-small-cnn", campaign="tuning", images="validation", alarms=[alarm],
            label=f"gat-mnist-small-cnn (optimizer.lr.peak {peak})" if peak == "0.1" else "gat-mnist-small-cnn",
            settings={"optimizer.lr.peak": float(peak)},
        )  # fmt: skip
        row = tmp_path / f"tuning {peak}" / "gat-mnist-small-cnn" / "seed-0" / "row.json"
        write(row, json.loads(row.read_text()) | {"settings": {"optimizer.lr.peak": peak}})
    campaign_row(tmp_path / "z", "nuat-mnist-small-cnn", label="NuAT", alarms=[alarm])
    groups = group(find_runs([tmp_path]).runs)
    assert [one.setting.campaign for one in groups] == ["versus", "tuning"]
    assert [method.label for method in groups[1].methods] == [
        "gat-mnist-small-cnn (lr.peak 0.1)", "gat-mnist-small-cnn (lr.peak 0.2)",
    ]  # fmt: skip
    told = lead(groups, 0)
    assert "2 of the runs only chose settings" in told
    assert "One run raised the alarm of catastrophic overfitting (and 2 in tuning)." in told
    page = Page(render(find_runs([tmp_path])))
    assert next(a["class"] for tag, a in page.elements if tag == "details") == "tuning"


@pytest.mark.slow
def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    for recipe, label in (("nuat-mnist-small-cnn", "a $\\frac{ b$"), ("gat-mnist-small-cnn", "b")):
        campaign_row(tmp_path, recipe, label=label)
    drawing = render(find_runs([tmp_path])).partition("<figure>")[2].partition("</figure>")[0]
    assert ">a $\\frac{ b$</text>" in drawing


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_is_named_itself_and_broken_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "good")
    broken = run(tmp_path / "broken")
    (broken / "metrics.jsonl").write_text("half\n")
    with pytest.raises(InputError, match=r"broken: metrics\.jsonl: line 1: not JSON, or cut off; remove it"):
        find_runs([broken])
    found = find_runs([tmp_path])
    assert [one.path.name for one in found.runs] == ["good"]
    named = f"{tmp_path.name}/broken"
    assert [path for path, _ in found.unreadable] == [named]
    text = Page(render(found)).text
    assert "Could not be read" in text
    assert f"{named} : metrics.jsonl: line 1: not JSON" in text
    assert "One folder could not be read and is left out." in text
    with pytest.raises(InputError, match="metrics"):
        find_runs([tmp_path, broken])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("evaluation.json", '{"format": 2, "results": [', "evaluation.json: does not hold an evaluation (not JSON"),
        ("evaluation-x.json", "{}", "evaluation-x.json: does not hold an evaluation"),
        ("diagnosis.json", '{"verdicts": [{}]}', "diagnosis.json: lacks 'evaluation'"),
        ("best.safetensors", "cut off", "best.safetensors cannot be read"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_run_is_shown_without_a_damaged_finding(name: str, text: str, says: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    evaluation(folder / "evaluation-good.json", {"clean": 90})
    (folder / name).write_text(text)
    found = find_runs([folder])
    assert f"left out: {says}" in Page(render(found)).text
    assert "left out: " in csv_text([tabulate(one) for one in group(found.runs)])
    assert [measured.percent for measured in found.runs[0].measurements] == [90]


def test_a_rows_numbers_of_a_damaged_evaluation_are_not_shown(tmp_path: Path) -> None:
    folder = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT")
    (folder / "evaluation-main.json").write_text("{")
    assert find_runs([folder]).runs[0].measurements == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"), ("config.json", "[]"), ("config.json", '{"recipe": "quickstart"}'),
        ("config.json", '{"recipe": "x", "config": {"threat": {"eps": 0.3}, "epochs": 1}}'),
        ("environment.json", "nothing"), ("environment.json", '{"packages": [1]}'), ("split.json", '{"train": "many"}'),
        ("split.json", '{"validation": [1]}'),
        ("metrics.jsonl", "{}\n"), ("metrics.jsonl", '{"kind": "epoch"}\n'), ("metrics.jsonl", '{"kind": "end"}\n'),
        ("metrics.jsonl", "half\n"), ("row.json", "[1]"), ("row.json", '{"status": "done"}'),
        ("row.json", '{"suites": {"main": {}}}'),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(name: str, text: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    if name == "row.json":
        (folder / "metrics.jsonl").unlink()
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        find_runs([folder])
    assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("; remove it, or make it again.")


def test_an_accuracy_that_its_verdicts_belie_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    path = evaluation(folder / "evaluation.json", {"clean": 40})
    path.write_text(path.read_text().replace('"accuracy": 0.4', '"accuracy": 0.9'))
    (found,) = find_runs([folder]).runs
    assert "accuracy written for clean is not that of its verdicts" in found.damaged[0]
    assert found.measurements == ()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_run_that_is_under_way_is_shown_with_what_it_has(tmp_path: Path) -> None:
    done = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=0)
    going = run(done.parent / "seed-1", recipe="nuat-mnist-small-cnn", settings={"seed": 1}, ended=False)
    with (going / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "ep')
    (going / "evaluation-main.partial.json").write_text("{")
    (one,) = group(find_runs([tmp_path]).runs)
    assert [run.seed for method in one.methods for run in method.runs] == [0, 1]  # the label is that of the other seed
    assert "not finished: 3 of 6 epochs" in Page(render(find_runs([tmp_path]))).text


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_attack_and_the_averages_of_a_validation_are_named(tmp_path: Path) -> None:
    settings = {"validate_attack": "gama-20", "averaging.tau": [0.9, 0.99], "model.activation": "silu"}
    run(tmp_path / "a", settings=settings)
    found = find_runs([tmp_path])
    page = render(found)
    assert 'aria-label="validation accuracy over the epochs: clean 53.0 % at the end, GAMA-PGD-20 33.0 % at' in page
    assert '<span class="key pgd">GAMA-PGD-20</span>' in page
    assert "Network small-cnn with silu" in Page(page).text
    for text in (Page(page).text, model_card(found.runs[0])):
        assert "small-cnn with silu" in text
        assert "the best of decays 0.9, 0.99" in text


def test_folders_are_found_once_and_at_any_depth(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "deep" / "er" / "b")
    run(tmp_path / ".hidden" / "c")
    (a / "tensorboard").mkdir()
    assert [one.path for one in find_runs([a, tmp_path, b, tmp_path / "deep" / ".." / "a"]).runs] == [a, b]


@pytest.mark.parametrize(
    ("path", "says"), [("none", "no such folder"), ("file", "is a file"), ("empty", "holds no run")]
)
def test_where_there_is_no_run(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=says):
        find_runs([tmp_path / path])
    with pytest.raises(InputError, match=rf"{tmp_path / path}: .*{says}"):
        find_runs([run(tmp_path / "a"), tmp_path / path])
    with pytest.raises(InputError, match="say which runs"):
        find_runs([])


@pytest.mark.usefixtures("undrawn")
def test_only_png_is_opened_as_a_picture_of_a_run(tmp_path: Path) -> None:
    for kind, shown in (("PNG", 1), ("GIF", 0), ("EPS", 0)):
        folder = run(tmp_path / kind)
        Image.effect_noise((60, 20), 90).save(folder / "examples.png", kind)
        assert sum(tag == "img" for tag, _ in Page(render(find_runs([folder]))).elements) == shown, kind


@pytest.mark.slow
def test_a_hundred_runs_make_a_small_page(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.effect_noise((1500, 500), 120).save(picture, "PNG", compress_level=1)
    for i in range(100):
        recipe = ("nuat-mnist-small-cnn", "gat-mnist-small-cnn", "fbf-mnist-small-cnn", "awp-mnist-small-cnn")[i % 4]
        folder = campaign_row(
            tmp_path / f"{i // 20}", recipe, label=recipe, seed=i // 4, n=2000, campaign=f"c{i // 20}"
        )
        (folder / "examples.png").write_bytes(picture.getvalue())
    began = time.process_time()
    text = render(find_runs([tmp_path]))
    print(f"{time.process_time() - began:.1f} s of one processor, {len(text) / 1e6:.2f} MB")
    assert len(text.encode()) < 3_000_000
    page = Page(text)
    assert sum(len(page.rows(i)) for i in range(len(page.tables))) == 20
    assert [a["id"] for tag, a in page.elements if a.get("id", "").startswith("run-")] == [
        f"run-{i}" for i in range(1, 101)
    ]
    assert 0 < sum(tag == "img" for tag, _ in page.elements) < 100
    assert "left out to keep this page small" in page.text


@pytest.mark.slow
def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT")
    campaign_row(tmp_path, "gat-mnist-small-cnn", label="GAT")
    assert render(find_runs([tmp_path])) == render(find_runs([tmp_path]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.md", "t.csv", "t.tex", "t.html", "report.html"])
@pytest.mark.usefixtures("undrawn")
def test_a_file_of_the_users_is_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs" / "a")
    Path(name).write_text("mine")
    words = ["runs"] if name == "report.html" else ["runs", "--out", name]
    with pytest.raises(InputError, match="exists; choose another --out, or replace it with --force true"):
        report(words)
    assert Path(name).read_text() == "mine"
    assert report([*words, "--force", "true"]) == 0
    assert Path(name).read_text() != "mine"
    if name.endswith(".html"):
        assert report(words) == 0  # a page of ours


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "x.html", tmp_path / f"{'x' * 300}.html"):
        with pytest.raises(InputError, match=r"--out .*(is a file, not a folder|cannot be written)"):
            report([str(tmp_path / "no-run"), "--out", str(out)])  # before the records are read
    for number, refused in ((errno.EACCES, InputError), (errno.ENOSPC, OSError)):
        monkeypatch.setattr("nuat.files.os.fsync", failing(OSError(number, "no")))
        with pytest.raises(refused):
            report([str(tmp_path / "a"), "--out", str(tmp_path / "x.html")])


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation(run(tmp_path / "runs" / "a") / "evaluation.json", {"clean": 90})
    assert report(["runs"]) == 0
    assert capsys.readouterr().out.startswith("report.html: 1 run, ")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    for ending, begins in (("md", "## MNIST"), ("csv", "table,campaign,"), ("tex", r"\begin{table}")):
        assert report(["runs", "--out", f"t.{ending}"]) == 0
        assert (tmp_path / f"t.{ending}").read_text().startswith(begins)
    capsys.readouterr()
    assert report(["runs/a", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say which runs"), (["runs", "--out", "t.pdf"], "its ending says no format"),
        (["runs", "--out", "runs"], "is a folder"), (["runs", "--format", "word"], "word"),
        (["runs", "--out", "runs/a/config.json", "--format", "csv"], "ends like a record"),
        (["runs", "--format", "model-card"], "of one run, and there are 2"),
        (["runs", "--format", "csv", "--out", "a.html"], "its ending says html, and --format says csv"),
        (["runs", "--format", "model-card", "--out", "a.tex"], "its ending says latex"),
        (["runs", "--format", "csv", "--force", "true"], "no effect on the screen"),
    ],
)  # fmt: skip
def test_what_the_command_refuses(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs" / "a")
    run(tmp_path / "runs" / "b")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=re.escape(says)):
        report(arguments)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_control_character_in_a_label_kills_no_page(tmp_path: Path) -> None:
    recipes = ("nuat", "gat", "fbf", "awp", "trades")
    labels = ("a\x01\x1b[31m b", "\ud800 half", "\u202eback", "line\nbreak", "\x0c")
    for recipe, label in zip(recipes, labels, strict=True):
        campaign_row(tmp_path, f"{recipe}-mnist-small-cnn", label=label)
    found = find_runs([tmp_path])
    text = render(found)
    assert "<figure>" in text  # the labels are in a drawing, too
    for written in (text, markdown([tabulate(one) for one in group(found.runs)]), *map(model_card, found.runs)):
        written.encode()
        assert not set(written) & set("\x01\x0c\x1b\u202e\ud800")


def test_a_cell_of_the_csv_is_no_formula(tmp_path: Path) -> None:
    for i, label in enumerate(("=1+1", "+a", "-b", "@SUM(A1)", "\t=2", "plain - label")):
        campaign_row(tmp_path, "nuat-mnist-small-cnn", label=label, seed=i)
    folder = campaign_row(tmp_path / "x", "nuat-mnist-small-cnn", label="x")
    path = folder / "evaluation-main.json"
    path.write_text(path.read_text().replace('"pgd-100"', '"=pgd"'))
    rows = list(csv.reader(io.StringIO(csv_text([tabulate(one) for one in group(find_runs([tmp_path]).runs)]))))
    cells = [cell for row in rows for cell in row]
    assert {"'=1+1", "'+a", "'-b", "'@SUM(A1)", "plain - label", "'=pgd [%]"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "I/O error")])
def test_a_record_that_may_not_be_read_is_one_line(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "a")
    monkeypatch.setattr("pathlib.Path.read_text", failing(error))
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        find_runs([folder])


@pytest.mark.slow
def test_names_of_folders_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs, of files in them, and of results without a run."""
    monkeypatch.chdir(tmp_path)
    names = ("a\x1b[31m b", os.fsdecode(b"\xff\xfe"), "two\nlines", '"); import os  # <b>', "\u202eback")
    for name in names:
        folder = run(Path(name))
        evaluation(folder / f"evaluation-{name}.json", {"clean": 9, "pgd-5": 8})
        (folder / f"analysis-{name}.json").write_text("{}")
        evaluation(Path("others") / name / "evaluation.json", {"clean": 9, "square": 8})
    found = find_runs([folder for name in names for folder in (Path(name), Path("others") / name)])
    assert len(found.runs) == 2 * len(names)
    tables = [tabulate(one) for one in group(found.runs)]
    drawn = render(found)
    for text in (drawn, markdown(tables), csv_text(tables), latex(tables), *map(model_card, found.runs)):
        text.encode()
        assert not set(text) & {"\x1b", "\u202e"}
    page = Page(drawn)
    assert [tag for tag, _ in page.elements if tag == "b"] == []
    assert references(page) == []


def test_hostile_names_cannot_break_a_card(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "results" / "quickstart", tmp_path / "run")
    (found,) = find_runs([tmp_path / "run"]).runs
    assert found.weights is not None
    measured = found.measurements[0]
    assert measured.evaluation is not None
    verdict = RecordedVerdict(check="<12>", status="FAIL", threshold="", meaning="<13>")
    card = model_card(
        replace(
            found,
            label="<1>|",
            recipe="a`b<2>\nc",
            config=found.config | {"defense": {"class": "<3>"}},
            weights=replace(found.weights, classes=("<4>", "<5>")),
            failure="<6>",
            source=found.source | {"source": "/home/me/<7>.npz"},
            environment={"hardware": "<8>", "nuat": "<9>", "command": ["nuat", "$(x)", "`" * 20]},
            alarms=({"monitor": "m", "epoch": 1, "message": "<10>"},),
            measurements=(
                replace(measured, evaluation=replace(measured.evaluation, hardware="<11>|")),
                replace(measured, attack="worst-case", attacks=("<14>",)),
                replace(measured, attack="square-10", attacks=("square-10",), file="<15>", evaluation=None),
            ),
            diagnosis=Diagnosis(file="diagnosis.json", n=5, checks=(verdict,), left_out=()),
        )
    )
    assert "/home/me" not in card
    assert "'$(x)'" in card
    assert "`a'b<2> c`" in card
    text = re.sub(r"^(`{3,})[^`]*$.*?^\1$", "", card, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)[<>]", text)
    for i in (1, *range(3, 16)):
        assert rf"\<{i}\>" in text, i
    assert r"\<11\>\| |" in text
    assert "`" not in text


def test_settings_in_a_card_are_text(tmp_path: Path) -> None:
    (found,) = find_runs([run(tmp_path / "a", recipe="plain-vit-mnist", settings={"model.name": "<b>"})]).runs
    assert r"in `model.name` \<b\> (recipe: timm:vit\_tiny\_patch16\_224)" in model_card(found)


def test_words_of_a_command_and_names_of_folders_are_text(tmp_path: Path) -> None:
    (found,) = find_runs([run(tmp_path / "a; ls\x1b[31m")]).runs
    assert found.called == r"a; ls\x1b[31m"
    assert [shlex.split(command) for _, command in commands(found)] == [
        ["nuat", "train", "quickstart", "--out", "runs/a b"],
        ["nuat", "train", "quickstart"],
    ]


def test_a_path_in_a_card_is_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(__file__).parents[2] / "results" / "quickstart", 'a"); import os; os.remove("b')
    card = model_card(find_runs([Path('a"); import os; os.remove("b')]).runs[0])
    (code,) = re.findall(r"model = nuat\.load\((.*)\)\n", card)
    assert json.loads(code) == 'a"); import os; os.remove("b/best.safetensors'
    exports = [line for line in card.splitlines() if line.startswith("nuat export")]
    assert [shlex.split(line)[2] for line in exports] == ['a"); import os; os.remove("b'] * 2


def test_evaluations_of_other_images_are_told_apart_by_their_intervals(tmp_path: Path) -> None:
    """There are no pairs of verdicts then."""
    for recipe, k, begin in (("nuat-mnist-small-cnn", 80, 0), ("gat-mnist-small-cnn", 20, 100)):
        evaluation(run(tmp_path / recipe, recipe=recipe) / "evaluation.json", {"pgd-100": k}, begin=begin)
    told = lead(group(find_runs([tmp_path]).runs), 0)
    assert re.search(r"gat-mnist-small-cnn follows with 20\.00 % .*, a difference that these images show\.", told), told
