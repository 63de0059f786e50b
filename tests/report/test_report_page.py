"""The page as a whole: nothing hostile gets through, nothing outside is asked for, broken folders are named."""

import io
import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from report_runs import Page, campaign_row, evaluation, run, write

from nuat.analysis.training_curves import TrainingCurves, curves_of
from nuat.commands.report import report
from nuat.errors import InputError
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.search import find_runs
from nuat.report.page.table import tabulate
from nuat.report.page.text import csv_text, escape_latex, latex, markdown

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}|$x_1$ \\input{a}%\n[b](javascript:c)"
LOADS = ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")


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
    body = [line for line in latex(tables).splitlines() if line.endswith(r" \\")]
    for line in body:
        assert r"\input" not in line
        assert line.count("{") == line.count("}")
        assert not re.search(r"(?<!\\)[#_%]", line)
    assert HOSTILE in csv_text(tables).replace('""', '"')


def test_latex_escapes_every_special() -> None:
    assert escape_latex("a_b & 50 % of $x$ {#} ~^\\ <|>") == (
        r"a\_b \& 50 \% of \$x\$ \{\#\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textbar{}"
        r"\textgreater{}"
    )
    assert escape_latex("[2em]") == "{[}2em]"


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


def test_an_analysis_is_drawn_and_a_broken_one_named(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    (folder / "analysis-broken.json").write_text("{")
    source = Path(__file__).parents[2] / "results" / "quickstart" / "metrics.jsonl"
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    TrainingCurves(runs=(curves_of(lines, "a $\\frac{ name", 0),)).save(folder / "analysis-training.json")
    page = Page(render(find_runs([folder])))
    assert "Training curves. From" in page.text
    assert "analysis-broken.json: not JSON" in page.text


def test_a_name_with_dollars_is_no_formula(tmp_path: Path) -> None:
    for recipe, label in (("nuat-mnist-small-cnn", "a $\\frac{ b$"), ("gat-mnist-small-cnn", "b")):
        campaign_row(tmp_path, recipe, label=label)
    drawing = render(find_runs([tmp_path])).partition("<figure>")[2].partition("</figure>")[0]
    assert ">a $\\frac{ b$</text>" in drawing


def test_a_folder_that_is_named_itself_and_broken_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "good")
    broken = run(tmp_path / "broken")
    (broken / "evaluation.json").write_text('{"format": 2, "results": [')
    with pytest.raises(InputError, match=r"broken: evaluation\.json: does not hold an evaluation; remove it"):
        find_runs([broken])
    found = find_runs([tmp_path])
    assert [one.path.name for one in found.runs] == ["good"]
    assert [path for path, _ in found.unreadable] == [str(broken)]
    text = Page(render(found)).text
    assert "Could not be read" in text
    assert f"{broken} : evaluation.json: does not hold an evaluation" in text
    assert "One folder could not be read and is left out." in text
    with pytest.raises(InputError, match="evaluation"):
        find_runs([tmp_path, broken])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"), ("config.json", "[]"), ("config.json", '{"recipe": "quickstart"}'),
        ("config.json", '{"recipe": "x", "config": {"threat": {"eps": 0.3}, "epochs": 1}}'),
        ("environment.json", "nothing"), ("environment.json", '{"packages": [1]}'), ("split.json", '{"train": "many"}'),
        ("metrics.jsonl", "{}\n"), ("metrics.jsonl", '{"kind": "epoch"}\n'), ("metrics.jsonl", '{"kind": "end"}\n'),
        ("metrics.jsonl", "half\n"), ("row.json", "[1]"), ("row.json", '{"status": "done"}'),
        ("row.json", '{"suites": {"main": {}}}'), ("diagnosis.json", '{"verdicts": [{}]}'),
        ("evaluation-x.json", "{}"), ("best.safetensors", "cut off"),
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


def test_an_accuracy_that_its_verdicts_belie_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    path = evaluation(folder / "evaluation.json", {"clean": 40})
    path.write_text(path.read_text().replace('"accuracy": 0.4', '"accuracy": 0.9'))
    with pytest.raises(InputError, match="accuracy written for clean is not that of its verdicts"):
        find_runs([folder])


def test_a_run_that_is_under_way_is_shown_with_what_it_has(tmp_path: Path) -> None:
    done = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=0)
    going = run(done.parent / "seed-1", recipe="nuat-mnist-small-cnn", settings={"seed": 1}, ended=False)
    with (going / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "ep')
    (going / "evaluation-main.partial.json").write_text("{")
    (one,) = group(find_runs([tmp_path]).runs)
    assert [run.seed for method in one.methods for run in method.runs] == [0, 1]  # the label is that of the other seed
    assert "not finished: 3 of 6 epochs" in Page(render(find_runs([tmp_path]))).text


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
    with pytest.raises(InputError, match="say which runs"):
        find_runs([])


def test_a_hundred_runs_make_a_small_page(tmp_path: Path) -> None:
    for i in range(100):
        recipe = ("nuat-mnist-small-cnn", "gat-mnist-small-cnn", "fbf-mnist-small-cnn", "awp-mnist-small-cnn")[i % 4]
        folder = campaign_row(
            tmp_path / f"{i // 20}", recipe, label=recipe, seed=i // 4, n=2000, campaign=f"c{i // 20}"
        )
        picture = io.BytesIO()
        Image.effect_noise((1500, 500), 120).save(picture, "PNG", compress_level=1)
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


def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT")
    campaign_row(tmp_path, "gat-mnist-small-cnn", label="GAT")
    assert render(find_runs([tmp_path])) == render(find_runs([tmp_path]))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation(run(tmp_path / "runs" / "a") / "evaluation.json", {"clean": 90})
    assert report(["runs"]) == 0
    assert capsys.readouterr().out.startswith("report.html: 1 run, ")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    for ending, begins in (("md", "## MNIST"), ("csv", "campaign,"), ("tex", r"\begin{table}")):
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
