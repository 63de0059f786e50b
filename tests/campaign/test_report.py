"""A campaign's tables: their numbers are those of the records, and what is missing shows as such."""

import dataclasses
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import FEW, MAIN, NAMES, NORMAL, NUAT, plan, record, toml
from rich.console import Console

from nuat import paper
from nuat.campaign import Campaign, Ledger, QueueEntry, RowStatus, load
from nuat.campaign.row_record import failed
from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.report.campaigns import campaign_markdown, queue_table
from nuat.report.escaping import escape_markdown


def table(text: str) -> dict[str, dict[str, str]]:
    """Return the cells of a Markdown table: by the first of the row, by head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert all(re.fullmatch(r"---:?", cell) for cell in rows[1])
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def write(campaign: Campaign, ledger: Ledger, index: int, **values: Any) -> None:
    """Write a record of a row that is done."""
    row = campaign.rows[index]
    suites = {
        suite.name: {
            "images": suite.images,
            "n": suite.n or 1000,
            "accuracies": dict.fromkeys(suite.attacks, 0.5),
        }
        for suite in row.suites
    }
    record = {
        "status": "done",
        "recipe": row.recipe,
        "eps": 0.1,
        "epochs": 1,
        "best_epoch": 1,
        "hardware": "an abacus",
        "nuat": "1.2.3",
        "packages": {"torch": "9.9"},
        "forwards": 1_500_000,
        "backwards": 500_000,
        "seconds": {"training": 12.4},
        "suites": suites,
    }
    ledger.write(row, {**record, **values})


def accuracies(**found: float) -> dict[str, Any]:
    names = {"clean": "clean", "two": "pgd-2", "four": "pgd-4", "worst": "worst-case"}
    return {"main": {"images": "test", "n": 1000, "accuracies": {names[name]: given for name, given in found.items()}}}


def test_the_numbers_are_those_of_the_records(finished: Path) -> None:
    text = campaign_markdown(plan(), Ledger(finished))
    rows = table(text)
    assert list(rows) == ["Normal", "NuAT"]
    for label, names in (("Normal", NAMES[:2]), ("NuAT", NAMES[2:])):
        records = [record(name) for name in names]
        assert rows[label]["seeds"] == "0, 1"
        for attack in ("clean", "pgd-2", "pgd-4", "worst-case"):
            values = [100 * found["suites"]["main"]["accuracies"][attack] for found in records]
            expected = f"{sum(values) / 2:.2f} +- {abs(values[0] - values[1]) / 2**0.5:.2f}"
            assert rows[label][attack] == expected
        one = records[0]["suites"]["few"]["accuracies"]["fgsm"]
        low, high = wilson_interval(round(one * 9), 9)
        assert rows[label]["fgsm, n 9"] == f"{100 * one:.2f} ({100 * low:.1f}-{100 * high:.1f})"
        assert rows[label]["training (s)"] == f"{statistics.fmean(r['seconds']['training'] for r in records):.0f}"
    assert text.startswith("# small\n\n|")
    assert "Linf eps 0.1; 4 of 4 rows are done." in text
    assert records[0]["hardware"] in text
    assert f"nuat {records[0]['nuat']}, torch {records[0]['packages']['torch']}" in text
    assert "Failed" not in text


def test_means_and_deviations_over_seeds() -> None:
    campaign = plan(toml({"recipe": NORMAL, "label": "x", "seeds": [0, 1, 2]}, suites=(MAIN,)))
    ledger = Ledger(Path("out"))
    for index, value in enumerate((0.5, 0.52, 0.6)):
        found = accuracies(clean=value, two=0.25, four=0.01, worst=0.0)
        write(
            campaign,
            ledger,
            index,
            suites=found,
            forwards=10**6 * index,
            backwards=10**5 * index,
            seconds={"training": 10.0 * index},
        )
    row = table(campaign_markdown(campaign, ledger))["x"]
    assert row == {
        "method": "x",
        "seeds": "0, 1, 2",
        "clean": "54.00 +- 5.29",
        "pgd-2": "25.00 +- 0.00",
        "pgd-4": "1.00 +- 0.00",
        "worst-case": "0.00 +- 0.00",
        "images forward (M)": "1.00",
        "images backward (M)": "0.10",
        "training (s)": "10",
    }


def test_one_seed_has_its_interval_over_images() -> None:
    campaign = plan(toml({"recipe": NORMAL, "label": "x"}, suites=(MAIN,)))
    ledger = Ledger(Path("out"))
    write(campaign, ledger, 0, suites=accuracies(clean=0.987, two=0.5, four=0.0))
    row = table(campaign_markdown(campaign, ledger))["x"]
    assert (row["clean"], row["pgd-2"], row["pgd-4"]) == (
        "98.70 (97.8-99.2)",
        "50.00 (46.9-53.1)",
        "0.00 (0.0-0.4)",
    )
    assert row["seeds"] == "0"


def test_what_is_missing_is_a_dash_and_never_0() -> None:
    text = toml({"recipe": NORMAL, "label": "x", "seeds": [0, 1]}, {"recipe": NUAT, "label": "y", "seeds": [1]})
    campaign, ledger = plan(text), Ledger(Path("out"))
    write(campaign, ledger, 0, suites={"few": {"images": "test", "n": 9, "accuracies": {}}})
    write(campaign, ledger, 1, suites=accuracies(two=0.5))
    write(campaign, ledger, 2)
    rows = table(campaign_markdown(campaign, ledger))
    assert rows["x"]["clean"] == rows["x"]["pgd-4"] == rows["x"]["fgsm, n 9"] == "-"
    assert rows["x"]["pgd-2"] == "50.00 (46.9-53.1)"  # of the one seed that has it
    assert rows["y"]["fgsm, n 9"] == "-"
    assert rows["y"]["clean"] != "-"


def test_rows_that_are_not_done_are_left_out_and_counted() -> None:
    campaign, ledger = plan(), Ledger(Path("out"))
    text = campaign_markdown(campaign, ledger)
    assert table(text) == {}
    assert "0 of 4 rows are done" in text
    assert "Measured on: -." in text
    write(campaign, ledger, 2)
    ledger.write(campaign.rows[3], failed(campaign, ledger, campaign.rows[3], InputError("too hot")))
    text = campaign_markdown(campaign, ledger)
    assert list(table(text)) == ["NuAT"]
    assert table(text)["NuAT"]["seeds"] == "0"
    assert "1 of 4 rows are done" in text
    assert text.endswith(f"Failed:\n\n- {escape_markdown(NAMES[3])}: too hot\n")


def test_each_row_says_what_it_was_measured_on_once() -> None:
    campaign, ledger = plan(), Ledger(Path("out"))
    for index, hardware in enumerate(("b", "a", "b", "b")):
        write(campaign, ledger, index, hardware=hardware)
    assert "Measured on: a; b. nuat 1.2.3, torch 9.9\n" in campaign_markdown(campaign, ledger)


@pytest.mark.parametrize(
    ("label", "shown"), [("a|b", r"a\|b"), ("a\nb", "a b"), ("||", r"\|\|"), ("Größe *x*", "Größe \\*x\\*")]
)
def test_a_label_cannot_break_the_table(label: str, shown: str) -> None:
    campaign = plan(toml({"recipe": NORMAL, "label": label}, suites=(MAIN,)))
    ledger = Ledger(Path("out"))
    write(campaign, ledger, 0)
    rows = table(campaign_markdown(campaign, ledger))
    assert list(rows) == [shown]
    assert rows[shown]["seeds"] == "0"


def test_a_name_and_a_hardware_are_no_markup() -> None:
    campaign, ledger = dataclasses.replace(plan(), name="<b> *x*"), Ledger(Path("out"))
    write(campaign, ledger, 0, hardware="an [abacus](a)")
    text = campaign_markdown(campaign, ledger)
    assert text.startswith("# \\<b\\> \\*x\\*\n")
    assert "Measured on: an \\[abacus\\](a). nuat" in text


def test_seeds_of_a_method_stand_together_wherever_they_are_in_the_campaign() -> None:
    rows = ({"recipe": NORMAL, "label": "x"}, {"recipe": NUAT, "label": "y"}, {"recipe": NORMAL, "seeds": [1]})
    campaign, ledger = plan(toml(*rows)), Ledger(Path("out"))
    for index in range(3):
        write(campaign, ledger, index)
    found = table(campaign_markdown(campaign, ledger))
    assert [(name, row["seeds"]) for name, row in found.items()] == [("x", "0, 1"), ("y", "0")]


def test_heads_say_which_images() -> None:
    suites = ({**MAIN, "n": 1000, "images": "validation"}, {**FEW, "n": 1500}, {"name": "all", "attacks": ["rfgsm"]})
    text = campaign_markdown(plan(toml({"recipe": NORMAL}, suites=suites)), Ledger(Path("out")))
    heads = [head.strip() for head in text.splitlines()[2].split("|")[3:9]]
    assert heads == [
        "clean validation, n 1,000",
        "pgd-2 validation, n 1,000",
        "pgd-4 validation, n 1,000",
        "worst-case validation, n 1,000",  # a suite of one attack has none
        "fgsm, n 1,500",
        "rfgsm",
    ]


@pytest.mark.parametrize("name", ["table-1a", "table-1b", "table-2-mnist", "table-2-imagenet100"])
def test_the_papers_numbers_stand_beside_ours(name: str) -> None:
    campaign, ledger = load(name), Ledger(Path("out"))
    for index in range(len(campaign.rows)):
        write(campaign, ledger, index)
    assert campaign.table is not None
    theirs = {row.recipe: row.values for row in paper.table(campaign.table) if row.recipe}
    text = campaign_markdown(campaign, ledger)
    rows = table(text)
    attacks = dict.fromkeys(q for values in theirs.values() for q in values if re.match("clean|pgd|gama|auto", q))
    assert [head for head in rows[campaign.rows[0].label] if head.startswith("paper")] == [
        f"paper: {attack}" for attack in attacks
    ]
    assert len(rows) == len(campaign.rows)
    for row in campaign.rows:
        for attack in attacks:
            value = theirs.get(row.recipe, {}).get(attack)
            assert rows[row.label][f"paper: {attack}"] == ("-" if value is None else f"{value:.2f}")
        assert rows[row.label]["clean"].startswith("50.00 (")


def test_no_two_rows_of_a_papers_table_share_a_recipe() -> None:
    """The second would take the place of the first in a campaign's table."""
    for name in paper.TABLES:
        recipes = [row.recipe for row in paper.table(name) if row.recipe]
        assert len(set(recipes)) == len(recipes)


def test_a_number_of_table_1a() -> None:
    campaign, ledger = load("table-1a"), Ledger(Path("out"))
    write(campaign, ledger, 0)
    row = table(campaign_markdown(campaign, ledger))["NuAT-WA"]
    assert row["paper: clean"] == "82.21"
    assert row["paper: gama-100"] == "50.97"


def test_a_campaign_of_no_table_has_no_numbers_of_the_paper(finished: Path) -> None:
    assert "paper" not in campaign_markdown(plan(), Ledger(finished))


def test_the_queue_as_a_table() -> None:
    rows = plan().rows
    entries = [
        QueueEntry(rows[0], RowStatus.DONE, 61.0),
        QueueEntry(rows[1], RowStatus.FAILED, None, "too hot"),
        QueueEntry(rows[2], RowStatus.PARTIAL, 7200.0),
        QueueEntry(rows[3], RowStatus.WAITING, None),
    ]
    console = Console(width=100, record=True, color_system=None)
    with console.capture() as captured:
        console.print(queue_table(entries))
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines == [
        ["row", "seed", "status", "time"],
        [NORMAL, "0", "done", "61", "s"],
        [NORMAL, "1", "failed"],
        [f"{NUAT}_defense.lam.peak-2", "0", "half", "done", "~2.0", "h"],
        [f"{NUAT}_defense.lam.peak-2", "1", "waiting", "?"],
    ]


@pytest.mark.parametrize("width", [60, 80, 160])
def test_long_names_in_the_queue_break_after_underscores_alone(width: int) -> None:
    changes = {"defense.lam.peak": 2, "defense.scale": "gaussian", "model.variant": "plain", "epochs": 12}
    row = plan(toml({"recipe": NUAT, "set": changes})).rows[0]
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(queue_table([QueueEntry(row=row, status=RowStatus.WAITING, seconds=7300.0)]))
    _, first, *rest = captured.get().splitlines()
    assert first.split()[1:] == [str(row.seed), "waiting", "~2.0", "h"]
    lines = [line.split()[0] for line in (first, *rest)]
    assert "".join(lines) == row.method
    assert all(line.endswith("_") for line in lines[:-1])
    assert (len(lines) == 1) == (width == 160)


def test_black_box_suites_are_said() -> None:
    blind = {**FEW, "name": "few_b", "attacks": ["clean", "square-10"]}
    campaign = plan(toml({"recipe": NORMAL}, suites=(MAIN, blind)))
    text = campaign_markdown(campaign, Ledger(Path("out")))
    assert "\n\nSuite few\\_b: black-box attacks alone (square-10): no gradient of the model was followed" in text
    assert "black-box" not in campaign_markdown(plan(), Ledger(Path("out")))


def test_suites_in_another_ball_are_said_and_rows_where_autoattack_followed_the_quick_verdict() -> None:
    quick = {"name": "quick_b", "attacks": ["clean", "autoattack-quick"], "threat": "Linf:0.2"}
    campaign, ledger = plan(toml({"recipe": NORMAL}, suites=(quick,))), Ledger(Path("out"))
    found = {"clean": 0.9, "autoattack-quick": 0.5, "autoattack": 0.4}
    write(campaign, ledger, 0, suites={"quick_b": {"images": "test", "n": 1000, "accuracies": found}})
    text = campaign_markdown(campaign, ledger)
    assert "\n\nSuite quick\\_b: Linf eps 0.2.\n" in text
    assert f"where AutoAttack followed it: {escape_markdown(campaign.rows[0].name)} (quick\\_b).\n" in text


def test_alarms_are_said_with_their_epochs() -> None:
    campaign, ledger = plan(), Ledger(Path("out"))
    raised = [("overfitting", 2), ("overfitting", 5), ("overfitting", 4), ("collapse", 4)]
    write(campaign, ledger, 0, alarms=[{"monitor": monitor, "epoch": epoch} for monitor, epoch in raised])
    write(campaign, ledger, 1)
    name = escape_markdown(campaign.rows[0].name)
    told = f"Alarms of the monitors:\n\n- {name}: overfitting, epochs 2, 4 to 5\n- {name}: collapse, epoch 4\n"
    assert campaign_markdown(campaign, ledger).endswith(told)


def test_the_report_of_a_finished_campaign_is_made_of_records_alone(finished: Path) -> None:
    before = campaign_markdown(plan(), Ledger(finished))
    for path in finished.rglob("*"):
        if path.is_file() and path.name != "row.json":
            path.unlink()
    assert campaign_markdown(plan(), Ledger(finished)) == before
    assert json.loads((finished / NAMES[0] / "row.json").read_text())["status"] == "done"


COMMITTED = Path(__file__).parents[2] / "results"
CAMPAIGNS = sorted({file.parents[2] for file in COMMITTED.rglob("row.json")})


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: str(folder.relative_to(COMMITTED)))
def test_committed_records_are_rows_of_their_campaign(folder: Path) -> None:
    records = sorted(folder.glob("*/seed-*/row.json"))
    settings = json.loads((records[0].parent / "config.json").read_text())["config"]
    given = [("precision", settings["precision"])]
    if settings["data"]["path"] is not None:
        given.append(("data.path", settings["data"]["path"]))
    campaign = load(folder.relative_to(COMMITTED).parts[0], settings=tuple(given))
    Ledger(folder).check(campaign)
    rows = {row.name: row for row in campaign.rows}
    for file in records:
        row, record = rows[str(file.parent.relative_to(folder))], json.loads(file.read_text())
        assert (record["campaign"], record["recipe"]) == (campaign.name, row.recipe)
        assert record["settings"] == dict(row.settings)


@pytest.mark.parametrize("folder", sorted(COMMITTED.glob("*/table.md")), ids=lambda path: path.parent.name)
def test_a_committed_table_is_that_of_its_records(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(COMMITTED.parent)
    name = folder.parent.name
    assert folder.read_text() == campaign_markdown(load(name), Ledger(Path("results") / name))
