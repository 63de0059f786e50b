"""The report's numbers are those of the records, and what was not measured stays missing, in every format."""

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from report.report_runs import Page, campaign_row, evaluation, run, write

from nuat import paper
from nuat.commands.report import report
from nuat.evaluation.result_table import evaluation_table
from nuat.progress import terminal
from nuat.recipes import RECIPES
from nuat.records.evaluations import read_evaluation
from nuat.records.search import find_runs
from nuat.records.settings import flat, to_json
from nuat.report.page.card import model_card
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.summary import group_sentences, lead
from nuat.report.page.table import decimals, tabulate
from nuat.report.page.text import csv_text, markdown

pytestmark = pytest.mark.usefixtures("undrawn")

RESULTS = Path(__file__).parents[2] / "results"


def csv_rows(*folders: Path) -> list[dict[str, str]]:
    tables = [tabulate(one) for one in group(find_runs(folders).runs)]
    return list(csv.DictReader(io.StringIO(csv_text(tables))))


def accuracies_in(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Return attack to (images withstood, images) straight from the JSON, that over the most images.

    Of two over as many, it is that of the evaluation that ended the run.
    """
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.glob("evaluation*.json"), key=lambda path: (path.name != "evaluation.json", path)):
        values = json.loads(path.read_text())
        flags = {row["name"]: row["correct"] for row in values["results"]}
        if len(set(flags) - {"clean"}) > 1:
            flags["worst-case"] = "".join(
                "1" if set(column) == {"1"} else "0" for column in zip(*flags.values(), strict=True)
            )
        for name, text in flags.items():
            if name not in found or len(text) > found[name][1]:
                found[name] = (text.count("1"), len(text))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "nuat-mnist", "quickstart-fgsm-at"])
def test_every_number_of_a_real_run_is_that_of_its_records(name: str) -> None:
    folder = RESULTS / name
    found = find_runs([folder])
    page = Page(render(found))
    (line,) = csv_rows(folder)
    # an overview of threats comes first where the evaluation kept the classes
    table = int("per_class" in json.loads((folder / "evaluation.json").read_text()))
    (row,) = page.rows(table).values()
    cells = {text.split()[0]: value for text, value in row if value is not None}
    values = accuracies_in(folder)
    assert values
    for attack, (correct, n) in values.items():
        percent = 100 * correct / n
        assert float(line[f"{attack} [%]"]) == pytest.approx(percent)
        assert line[f"{attack} n"] == str(n)
        assert float(line[f"{attack} low [%]"]) < percent or correct == 0
        assert float(str(cells[f"{percent:.2f}"])) == pytest.approx(percent)
    end = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(line["training [s]"]) == pytest.approx(end["seconds"])
    assert line["forward [images]"] == str(end["forwards"])
    assert f"{end['forwards'] / 1e6:.2f}" in cells
    assert float(str(cells[f"{end['seconds']:,.0f}"])) == pytest.approx(end["seconds"])
    environment = json.loads((folder / "environment.json").read_text())
    for told in (
        environment["hardware"].replace(" 1 threads", " 1 thread"),
        environment["git"],
        environment["packages"]["torch"],
        environment["command"][1],
    ):
        assert told in page.text


@pytest.mark.slow
def test_the_campaigns_numbers_are_those_of_its_rows() -> None:
    root = RESULTS / "mnist-small"
    rows: dict[str, list[Any]] = {}
    for path in root.rglob("row.json"):
        row = json.loads(path.read_text())
        rows.setdefault(row["label"], []).append(row)
    lines = {line["method"]: line for line in csv_rows(root)}
    page = Page(render(find_runs([root])))
    assert set(rows) == set(lines) == set(page.rows())
    for label, found in rows.items():
        texts = [text for text, _ in page.rows()[label]]
        done = [row["suites"]["main"]["accuracies"] for row in found if row["status"] == "done"]
        for attack in done[0]:
            mean = 100 * sum(accuracies[attack] for accuracies in done) / len(done)
            assert float(lines[label][f"{attack} [%]"]) == pytest.approx(mean)
            assert lines[label][f"{attack} seeds"] == str(len(done))
            assert any(text.startswith(f"{mean:.2f} ") for text in texts)


@pytest.mark.slow
def test_an_interval_is_wilsons(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    evaluation(folder / "evaluation.json", {"clean": 95}, 100)
    (line,) = csv_rows(folder)
    # Wilson 1927 for 95 of 100, worked by hand
    assert float(line["clean low [%]"]) == pytest.approx(88.825, abs=0.001)
    assert float(line["clean high [%]"]) == pytest.approx(97.846, abs=0.001)
    assert "95.00 88.8\u201397.8" in [text for text, _ in Page(render(find_runs([folder]))).rows()["quickstart"]]


@pytest.mark.slow
def test_several_seeds_are_their_mean_and_deviation(tmp_path: Path) -> None:
    for seed, correct in enumerate((40, 50, 60)):
        campaign_row(
            tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=seed, correct={"gama-100": correct}, seconds=seed
        )
    (line,) = csv_rows(tmp_path)
    assert (line["seeds"], line["seeds list"], line["gama-100 seeds"]) == ("3", "0 1 2", "3")
    assert float(line["gama-100 [%]"]) == 50
    assert float(line["gama-100 sd [%]"]) == pytest.approx(10)
    assert line["gama-100 low [%]"] == line["gama-100 high [%]"] == ""  # of images, which seeds share
    assert float(line["training [s]"]) == 1
    assert ("50.00 \u00b1 10.00", "50.0") in Page(render(find_runs([tmp_path]))).rows()["NuAT"]


@pytest.mark.slow
def test_a_seed_that_lacks_an_attack_is_not_counted_as_0(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=0, correct={"clean": 90, "gama-100": 40})
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", seed=1, correct={"clean": 80})
    (line,) = csv_rows(tmp_path)
    assert (float(line["clean [%]"]), line["clean seeds"]) == (85, "2")
    assert (float(line["gama-100 [%]"]), line["gama-100 seeds"]) == (40, "1")
    found = find_runs([tmp_path])
    assert any(text.endswith(", 1 of 2 seeds") for text, _ in Page(render(found)).rows()["NuAT"])


@pytest.mark.slow
def test_a_paper_row_that_nothing_attacked_is_all_missing(tmp_path: Path) -> None:
    found = find_runs([run(tmp_path / "a", recipe="nuat-wa-cifar10-resnet18")])
    (line,) = csv_rows(tmp_path)
    assert line["clean [%]"] == line["gama-100 [%]"] == ""
    assert line["paper gama-100 [%]"] == "50.97"
    assert "right on" not in lead(group(found.runs), 0)
    assert "Not attacked: no evaluation is recorded." in Page(render(found)).text


def test_a_method_is_not_ranked_by_one_of_its_seeds(tmp_path: Path) -> None:
    for seed, counts in enumerate(({"pgd-100": 90, "autoattack": 90}, {"pgd-100": 0})):
        campaign_row(tmp_path, "gat-mnist-small-cnn", label="Shaky", seed=seed, correct=counts)
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="Firm", correct={"pgd-100": 60, "autoattack": 50})
    (one,) = group(find_runs([tmp_path]).runs)
    assert "Under PGD-100 on 100 test images Firm is right on 60.00 %" in " ".join(group_sentences(one))


def test_the_same_seed_twice_is_not_two_seeds(tmp_path: Path) -> None:
    for place, correct in (("one", 40), ("two", 60)):
        evaluation(run(tmp_path / place) / "evaluation.json", {"pgd-100": correct})
    lines = csv_rows(tmp_path)
    assert [float(line["pgd-100 [%]"]) for line in lines] == [40, 60]
    assert [line["seeds"] for line in lines] == ["1", "1"]
    assert all(place in line["method"] for line, place in zip(lines, ("one", "two"), strict=True))


def test_runs_of_other_settings_are_not_averaged_and_told_apart(tmp_path: Path) -> None:
    for seed, lam in enumerate((2.0, 4.0)):
        folder = run(tmp_path / f"{seed}", settings={"defense.lam.peak": lam, "seed": seed})
        evaluation(folder / "evaluation.json", {"pgd-100": 50})
    assert [line["method"] for line in csv_rows(tmp_path)] == [
        "quickstart (lam.peak 2.0)",
        "quickstart (lam.peak 4.0)",
    ]


@pytest.mark.slow
def test_what_was_not_measured_is_a_dash_or_empty_and_never_0(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a"), run(tmp_path / "b", recipe="quickstart-standard", ended=False)
    evaluation(a / "evaluation.json", {"clean": 90, "pgd-100": 0})
    evaluation(b / "evaluation.json", {"clean": 80})
    measured, missing = csv_rows(tmp_path)
    assert (measured["pgd-100 [%]"], missing["pgd-100 [%]"], missing["pgd-100 n"]) == ("0.0", "", "")
    assert missing["training [s]"] == missing["forward [images]"] == missing["epochs"] == ""
    assert missing["remarks"] == "not finished: 3 of 5 epochs"
    tables = [tabulate(one) for one in group(find_runs([tmp_path]).runs)]
    heads, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown(tables).splitlines()
        if line.startswith(("| Method", "| quickstart-standard"))
    )
    shown = dict(zip(heads, row, strict=True))
    assert shown["PGD-100 (n 100)"] == shown["Training (s)"] == "\u2013"
    page = Page(render(find_runs([tmp_path])))
    assert [text for text, value in page.rows()["quickstart-standard"] if value is None].count("\u2013") == 5
    assert ("0.00 0.0\u20133.7", "0.0") in page.rows()["quickstart"]
    for _, attributes in page.elements:
        if attributes.get("class", "").startswith("missing"):
            assert "data-value" not in attributes  # it sorts behind every number


@pytest.mark.slow
def test_evaluations_at_another_eps_are_not_in_the_table(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    evaluation(folder / "evaluation.json", {"pgd-100": 40})
    evaluation(folder / "evaluation-small.json", {"pgd-100": 90, "fgsm": 95}, 1000, eps=0.1)
    (line,) = csv_rows(folder)
    assert float(line["pgd-100 [%]"]) == 40
    assert "fgsm [%]" not in line
    assert "--eps 0.1" in Page(render(find_runs([folder]))).text


@pytest.mark.slow
def test_evaluations_within_another_norm_are_not_in_the_table(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    evaluation(folder / "evaluation.json", {"pgd-100": 40})
    values = json.loads(evaluation(folder / "evaluation-l2.json", {"pgd-100": 900}, 1000).read_text())
    write(folder / "evaluation-l2.json", values | {"norm": "L2"})
    (line,) = csv_rows(folder)
    assert float(line["pgd-100 [%]"]) == 40
    text = Page(render(find_runs([folder]))).text
    assert "L2 0.3" in text
    assert "--norm L2" in text


def test_the_accuracy_over_the_most_images_is_taken(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    evaluation(folder / "evaluation.json", {"pgd-100": 40}, 100)
    evaluation(folder / "evaluation-all.json", {"pgd-100": 450}, 1000)
    (line,) = csv_rows(folder)
    assert (float(line["pgd-100 [%]"]), line["pgd-100 n"]) == (45, "1000")


@pytest.mark.slow
def test_validation_images_are_said_to_be_so(tmp_path: Path) -> None:
    campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT", images="validation", correct={"pgd-100": 40})
    (line,) = csv_rows(tmp_path)
    assert "pgd-100 [%]" not in line
    assert float(line["pgd-100 validation [%]"]) == 40
    assert "n 100 validation" in Page(render(find_runs([tmp_path]))).text


def test_a_row_whose_evaluations_are_gone_keeps_its_numbers(tmp_path: Path) -> None:
    folder = campaign_row(tmp_path, "nuat-mnist-small-cnn", label="NuAT")
    before = csv_rows(tmp_path)
    for path in folder.iterdir():
        if path.name not in ("row.json", "config.json"):
            path.unlink()
    assert csv_rows(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "table", "eps"),
    [("nuat-wa-cifar10-resnet18", "1a", 8 / 255), ("nuat-wa-h-60-cifar10-wrn-34-10", "1b", 8 / 255),
    ("pgd-at-mnist-mnist-cnn", "2-mnist", 0.3), ("awp-imagenet100-resnet18", "2-imagenet100", 8 / 255)],
)  # fmt: skip
def test_the_papers_numbers_stand_beside_ours(recipe: str, table: str, eps: float, tmp_path: Path) -> None:
    folder = run(tmp_path / "a", recipe=recipe, settings={"data.name": paper.of_table(table)[0].dataset})
    evaluation(folder / "evaluation.json", {"clean": 80, "autoattack": 45}, eps=eps)
    theirs = next(row for row in paper.table(table) if row.recipe == recipe)
    (line,) = csv_rows(folder)
    assert line["method"] == theirs.method
    shown = [text for text, _ in next(iter(Page(render(find_runs([folder]))).rows().values()))]
    for quantity, value in theirs.values.items():
        if quantity in ("# AT steps", "two-step epochs", "epochs"):
            continue
        assert float(line[f"paper {quantity} [%]"]) == value
        assert f"{value:.2f}" in shown
        assert line[f"{quantity} [%]"] == {"clean": "80.0", "autoattack": "45.0"}.get(quantity, "")
    assert float(line["autoattack [%]"]) == 45


@pytest.mark.parametrize("settings", [{"threat.eps": 4 / 255}, {"data.path": "photos"}])
def test_the_paper_says_nothing_of_other_data_or_eps(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = run(tmp_path / "a", recipe="nuat-wa-cifar10-resnet18", settings=settings)
    evaluation(folder / "evaluation.json", {"clean": 80}, eps=settings.get("threat.eps", 8 / 255))
    (line,) = csv_rows(folder)
    assert not [name for name in line if name.startswith("paper")]


@pytest.mark.slow
def test_changes_to_the_recipe_are_named(tmp_path: Path) -> None:
    settings = {
        "defense.lam.peak": 9.5,
        "seed": 3,
        "device": "cpu",
        "data.path": "there/mnist.npz",
        "monitors.on_collapse": "stop",
    }
    (line,) = csv_rows(run(tmp_path / "a", recipe="nuat-mnist", settings=settings))
    was = json.loads((RESULTS / "nuat-mnist" / "config.json").read_text())["config"]["defense"]["lam"]["peak"]
    assert (line["recipe changes"], line["recipe changes list"]) == ("1", f"defense.lam.peak 9.5 (recipe: {was})")
    assert (
        "nuat train nuat-mnist --defense.lam.peak 9.5 --data.path there/mnist.npz"
        in Page(render(find_runs([tmp_path]))).text
    )


@pytest.mark.slow
def test_markdown_and_latex_have_the_csvs_numbers() -> None:
    root = RESULTS / "mnist-small"
    tables = [tabulate(one) for one in group(find_runs([root]).runs)]
    texts = {
        "markdown": [line.split("|")[1:-1] for line in markdown(tables).splitlines() if line.startswith("| ")],
        "latex": [line.removesuffix(r" \\").split("&") for line in latex(tables).splitlines() if " & " in line],
    }
    for kind, lines in texts.items():
        rows = {row[0].strip(): " ".join(row) for row in lines}
        for line in csv_rows(root):
            for name, value in line.items():
                if re.fullmatch(r"[a-z0-9-]+ \[%\]", name):
                    n = int(line[name.replace(" [%]", " n")])
                    shown = f"{float(value):.2f} (" if kind == "markdown" else f"{float(value):.{decimals(n)}f}"
                    assert shown in rows[line["method"]]


def test_the_summary_names_the_best_and_whom_it_cannot_be_told_from(tmp_path: Path) -> None:
    for label, recipe, correct in (
        ("Best", "nuat-mnist-small-cnn", 600), ("Near", "gat-mnist-small-cnn", 598),
        ("Far", "fgsm-at-mnist-small-cnn", 10),
    ):  # fmt: skip
        counts = {"clean": 990, "pgd-100": 700, "autoattack": correct}
        campaign_row(tmp_path, recipe, label=label, correct=counts, n=1000)
    (one,) = group(find_runs([tmp_path]).runs)
    told = " ".join(group_sentences(one))
    assert "Under AutoAttack on 1,000 test images Best is right on 60.00 % (95 % interval 56.9\u201363.0)" in told
    assert "without an attack on 99.00 %" in told
    assert "do not tell it from Near." in told
    assert "Far follows with 1.00 % (95 % interval 0.5\u20131.8), a difference that these images show." in told
    assert lead([one], 2).endswith("2 folders could not be read and are left out.")


def test_methods_are_ranked_by_the_worst_case_where_it_is_over_the_same_attacks(tmp_path: Path) -> None:
    # each of two attacks breaks other images, so that the worst case turns the order round
    for label, recipe, first in (("Holes", "nuat-mnist-small-cnn", 400), ("Firm", "gat-mnist-small-cnn", 0)):
        counts = {"clean": 990, "pgd-100": 700, "gama-100": 650 if first else 600}
        folder = campaign_row(tmp_path, recipe, label=label, correct=counts, n=1000)
        path = folder / "evaluation-main.json"
        values = json.loads(path.read_text())
        for result in values["results"]:
            if result["name"] == "gama-100" and first:
                result["correct"] = result["correct"][::-1]
        path.write_text(json.dumps(values))
    (one,) = group(find_runs([tmp_path]).runs)
    told = " ".join(group_sentences(one))
    assert "Under Worst case" not in told
    assert "In the worst case of all attacks within Linf 0.3 on 1,000 test images Firm is right on 60.00 %" in told
    for attack in ("fgsm", "square"):
        folder = campaign_row(
            tmp_path / attack, "awp-mnist-small-cnn", label=attack, correct={"pgd-20": 70, attack: 60}
        )
    groups = group(find_runs([tmp_path]).runs)
    assert "PGD-20" not in " ".join(group_sentences(groups[0]))  # not all have it
    assert "orst case" not in " ".join(
        group_sentences(group(find_runs([tmp_path / "fgsm", tmp_path / "square"]).runs)[0])
    )


def test_a_shorter_recipe_stands_beside_the_papers_row() -> None:
    (line,) = csv_rows(RESULTS / "nuat-mnist")
    assert line["paper pgd-500 [%]"] == "96.3"
    assert line["paper clean [%]"] == "99.36"
    (one,) = group(find_runs([RESULTS / "nuat-mnist"]).runs)
    recipe = flat(to_json(RECIPES["nuat-wa-mnist-mnist-cnn"]()))
    ours = flat(json.loads((RESULTS / "nuat-mnist" / "config.json").read_text())["config"])
    skipped = (
        "seed",
        "device",
        "monitors.",
        "evaluation.",
        "checkpoint_every",
        "data.path",
        "data.cache",
        "data.download",
    )
    count = sum(
        name in recipe and recipe[name] != value and not name.startswith(skipped) for name, value in ours.items()
    )
    assert count > 1
    assert any(
        f"its settings differ in {count} from those of nuat-wa-mnist-mnist-cnn" in n for n in tabulate(one).notes
    )


@pytest.mark.slow
def test_alarms_failures_and_verdicts_are_said(tmp_path: Path) -> None:
    alarm = {"kind": "alarm", "monitor": "overfitting", "epoch": 2, "message": "FGSM <far> above PGD", "stop": True}
    a = run(tmp_path / "a", metrics=[alarm], ended=False)
    failed = {"status": "failed", "reason": "too hot", "campaign": "versus", "label": "Hot", "recipe": "quickstart"}
    write(tmp_path / "c" / "failed" / "seed-0" / "row.json", failed | {"seed": 0})
    verdict = {
        "check": "steps",
        "status": "FAIL",
        "measured": {},
        "threshold": "below 1",
        "meaning": "do not believe it",
    }
    write(a / "diagnosis.json", {"verdicts": [verdict, verdict | {"status": "PASS"}], "evaluation": {"n": 200}})
    text = Page(render(find_runs([tmp_path]))).text
    for told in (
        "ended by an alarm in epoch 2", "alarm: overfitting, epoch 2", "FGSM <far> above PGD", "failed: too hot",
        "One run failed", "1 PASS, 1 FAIL, 0 INCONCLUSIVE", "do not believe it", "catastrophic overfitting",
    ):  # fmt: skip
        assert told in text, told


def test_a_model_card_says_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(RESULTS / "nuat-mnist"), "--format", "model-card"]) == 0
    card = capsys.readouterr().out
    for attack, (correct, n) in accuracies_in(RESULTS / "nuat-mnist").items():
        name = {"clean": "Clean", "worst-case": "Worst case", "autoattack": "AutoAttack"}.get(attack, attack.upper())
        name = name.replace("GAMA", "GAMA-PGD")
        assert re.search(
            rf"\| {name} \| {100 * correct / n:.2f} \| [\d.]+\u2013[\d.]+ \| {n:,} \| Linf 0.3 \| test \|", card
        ), attack
    assert "CC BY-SA 3.0" in card
    assert "nuat train nuat-mnist" in card
    assert "not in this folder" in card
    assert "It was not examined" in card
    assert "AutoAttack, the field's standard, was not run" not in card
    report([str(run(tmp_path / "a")), "--format", "model-card"])
    bare = capsys.readouterr().out
    assert "Not attacked" in bare
    assert "AutoAttack, the field's standard, was not run" in bare


def test_black_box_attacks_alone_are_said_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "run")
    evaluation(folder / "evaluation.json", {"clean": 90, "square": 60, "noise-10": 80})
    found = find_runs([tmp_path])
    tables = [tabulate(one) for one in group(found.runs)]
    note = "black-box attacks alone (square, noise-10): no gradient of the model was followed"
    for text in (
        Page(render(found)).text,
        markdown(tables),
        csv_text(tables),
        latex(tables),
        model_card(found.runs[0]),
    ):
        assert f"evaluation.json: {note}" in text
    assert "In the worst case of black-box attacks alone within Linf 0.3 on 100 test images" in lead(
        group(found.runs), 0
    )
    evaluation(folder / "evaluation.json", {"clean": 90, "square": 60, "pgd-5": 80})
    found = find_runs([tmp_path])
    assert "black-box" not in render(found) + markdown([tabulate(one) for one in group(found.runs)])
    assert "In the worst case of all attacks within Linf 0.3 on 100 test images" in lead(group(found.runs), 0)


def test_a_table_on_the_terminal_says_that_only_black_box_attacks_ran(tmp_path: Path) -> None:
    def printed(correct: dict[str, int]) -> str:
        console = terminal()
        with console.capture() as captured:
            console.print(evaluation_table(read_evaluation(evaluation(tmp_path / "a.json", correct))))
        return " ".join(captured.get().split())

    assert "black-box attacks alone (square): no gradient" in printed({"clean": 9, "square": 6})
    assert "black-box" not in printed({"clean": 9, "square": 6, "fgsm": 5})
    assert "black-box" not in printed({"clean": 9})
