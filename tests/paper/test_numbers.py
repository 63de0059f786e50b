"""The paper's numbers: complete, as printed, and the same wherever the package quotes them."""

import csv
import re
from collections import Counter
from dataclasses import replace
from importlib import resources

import pytest
import torch
from oracles import TinyConv, images, labels

from nuat import paper
from nuat.campaign import load
from nuat.data import Batch
from nuat.distributed.world import ALONE
from nuat.errors import InputError
from nuat.recipes import RECIPES, mnist
from nuat.training.state import TrainingState
from nuat.training.update import Updater

COLUMNS = ["table", "row", "method", "dataset", "network", "eps", "recipe", "quantity", "value", "place"]
ATTACKS = {
    "clean": "clean",
    "PGD-20": "pgd-20",
    "PGD-100": "pgd-100",
    "PGD-500": "pgd-500",
    "GAMA-100": "gama-100",
    "AutoAttack v1": "autoattack-v1",
    "AutoAttack v2": "autoattack",
}
"""Attack as a docstring calls it to quantity."""
TITLES = {"1a": "1a", "1b": "1b", "2 (ImageNet-100)": "2-imagenet100", "2 (MNIST)": "2-mnist"}
"""Table as a docstring calls it to its name."""


def quoted(text: str) -> dict[str, float]:
    """Return the accuracies that a text quotes, by quantity."""
    attacks = "|".join(map(re.escape, ATTACKS))
    return {ATTACKS[name]: float(value) for value, name in re.findall(rf"(\d+\.\d\d) ({attacks})\b", text)}


def test_the_file_holds_every_number_once() -> None:
    text = (resources.files(paper) / "numbers.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert list(lines[0]) == COLUMNS
    # rows x columns; 4 rows of Table 1b have a subscript
    totals = {"1a": 14 * 6, "1b": 14 * 6 + 4, "2-cifar10": 11 * 4, "2-imagenet100": 11 * 4, "2-mnist": 11 * 4}
    in_the_text = {"section-5.1": 2, "section-6": 2, "section-6.1": 4, "section-6.2": 1}
    assert Counter(line["table"] for line in lines) == totals | in_the_text
    assert len({(line["table"], line["row"], line["quantity"]) for line in lines}) == len(lines)
    assert len({line["place"] for line in lines}) == len(lines)
    for line in lines:
        whole = line["quantity"] in ("# AT steps", "epochs", "two-step epochs", "cost over NuAT2-WA")
        assert re.fullmatch(r"\d+" if whole else r"\d+\.\d\d", line["value"]), line
        assert line["place"].startswith(f"Table {line['table'][:2].rstrip('-')}, " if line["table"][0] in "12" else "S")
    assert len(paper.numbers()) == len(lines)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("Table 1a, Normal, Clean Acc", 92.30),
        ("Table 1a, FBF, AA (v1)", 43.12),
        ("Table 1a, NuAT-WA, AA (v1)", 50.75),
        ("Table 1a, NuAT, GAMA 100", 49.46),
        ("Table 1a, AWP, # AT steps", 11),
        ("Table 1b, NuAT2-WA, AA (v2)", 54.76),
        ("Table 1b, NuAT-WA-H (25+2), PGD 100", 54.82),
        ("Table 1b, NuAT-WA-H (80+32), subscript of the epochs", 32),
        ("Table 1b, PGD, epochs", 200),
        ("Table 1b, AWP, PGD 100", 59.13),
        ("Table 2, CIFAR-10, FBF, AA (v1)", 42.37),
        ("Table 2, CIFAR-10, AWP, PGD 500", 55.52),
        ("Table 2, ImageNet-100, PGD-AT, AA (v1)", 32.98),
        ("Table 2, ImageNet-100, NuAT-WA, PGD 500", 38.68),
        ("Table 2, MNIST, NuAT, AA (v1)", 93.11),
        ("Table 2, MNIST, AWP, Clean Acc", 99.12),
        ("Section 6.1, Scalability to ImageNet, NuAT-WA, clean accuracy", 59.65),
        ("Section 5.1, Nuclear norm attack, average entropy score", 0.97),
    ],
)
def test_single_numbers(place: str, value: float) -> None:
    (found,) = [number.value for number in paper.numbers() if number.place == place]
    assert found == value


@pytest.mark.parametrize(
    ("table", "quantity", "total"),
    # added up from the paper's text
    [
        ("1a", "clean", 1159.27),
        ("1a", "pgd-20", 600.55),
        ("1a", "pgd-500", 597.78),
        ("1a", "gama-100", 558.75),
        ("1a", "autoattack-v1", 554.44),
        ("1b", "clean", 1187.3),
        ("1b", "pgd-100", 776.93),
        ("1b", "gama-100", 734.12),
        ("1b", "autoattack", 728.57),
        ("2-cifar10", "clean", 914.42),
        ("2-cifar10", "pgd-500", 501.38),
        ("2-cifar10", "gama-100", 468.92),
        ("2-cifar10", "autoattack-v1", 464.08),
        ("2-imagenet100", "clean", 751.8),
        ("2-imagenet100", "pgd-500", 334.38),
        ("2-imagenet100", "gama-100", 280.94),
        ("2-imagenet100", "autoattack-v1", 278.44),
        ("2-mnist", "clean", 1092.08),
        ("2-mnist", "pgd-500", 931.27),
        ("2-mnist", "gama-100", 914.33),
        ("2-mnist", "autoattack-v1", 893.29),
    ],
)
def test_columns_add_up(table: str, quantity: str, total: float) -> None:
    assert sum(row.values[quantity] for row in paper.table(table)) == pytest.approx(total, abs=1e-6)


def test_the_text_agrees_with_the_tables() -> None:
    """Section 6.1 says by how much AutoAttack's accuracy improves, from GAT to NuAT and from GAT-WA to NuAT-WA."""
    for name, plain, averaged in (("2-cifar10", 1.94, 2.47), ("2-imagenet100", 3.04, 3.86), ("2-mnist", 2.49, 1.62)):
        accuracy = {row.method: row.values["autoattack-v1"] for row in paper.table(name)}
        assert accuracy["NuAT"] - accuracy["GAT"] == pytest.approx(plain)
        assert accuracy["NuAT-WA"] - accuracy["GAT-WA"] == pytest.approx(averaged)


def test_tables_1a_and_2_differ_in_one_number() -> None:
    first = {row.method: row.values for row in paper.table("1a")}
    differ = {
        (row.method, quantity): (first[row.method][quantity], value)
        for row in paper.table("2-cifar10")
        for quantity, value in row.values.items()
        if first[row.method][quantity] != value
    }
    assert differ == {("FBF", "autoattack-v1"): (43.12, 42.37)}


def test_rows_are_in_the_papers_order() -> None:
    assert [row.method for row in paper.table("1a")][-5:] == ["NuAT-WA", "PGD-AT", "TRADES", "TRADES-WA", "AWP"]
    hybrids = [row for row in paper.table("1b") if row.method == "NuAT-WA-H"]
    assert [(row.values["epochs"], row.values["two-step epochs"]) for row in hybrids] == [(25, 2), (60, 6), (80, 32)]
    assert list(hybrids[0].values)[:3] == ["# AT steps", "epochs", "two-step epochs"]


@pytest.mark.parametrize("name", paper.TABLES)
def test_every_row_has_a_recipe_of_its_own_that_fits_it(name: str) -> None:
    recipes = [row.recipe for row in paper.table(name)]
    assert len(set(recipes)) == len(recipes)
    for number in paper.of_table(name):
        config = RECIPES[number.recipe]()
        images = config.data.path.name if config.data.path is not None else config.data.name
        assert (images, config.model.name, config.threat.eps) == (number.dataset, number.network, number.eps)
        if number.quantity == "epochs":
            assert config.epochs == number.value
        assert (config.averaging.tau is not None) == ("-WA" in number.method)


def test_of_the_numbers_in_the_text_those_on_imagenet_have_a_recipe_that_quotes_them() -> None:
    text = [n for n in paper.numbers() if n.table not in (*paper.TABLES, "section-6", "section-6.2")]
    found: dict[str, dict[str, float]] = {}
    for number in text:
        found.setdefault(number.recipe, {})[number.quantity] = number.value
    assert set(found) == {"", "nuat-wa-imagenet-resnet50", "fbf-imagenet-resnet50"}
    assert {number.table for number in text if not number.recipe} == {"section-5.1"}
    for name in set(found) - {""}:
        config = RECIPES[name]()
        assert str(config.data.path) == "imagenet"
        assert (config.model.name, config.threat.eps) == ("resnet50", 4 / 255)
        line = (RECIPES[name].__doc__ or "").splitlines()[0]
        assert line.startswith("ImageNet (section 6.1), ")
        assert quoted(line) == found[name]


def test_the_deviation_over_seeds_has_a_campaign_of_as_many_runs_under_these_attacks() -> None:
    numbers = [number for number in paper.numbers() if number.table == "section-6"]
    rows = load("five-seeds").rows
    of_the_paper = [row for row in rows if row.recipe == numbers[0].recipe]
    assert {number.recipe for number in numbers} == {of_the_paper[0].recipe}
    assert len({row.seed for row in of_the_paper}) == 5
    (suite,) = of_the_paper[0].suites
    assert {f"{attack} deviation" for attack in suite.attacks} == {number.quantity for number in numbers}
    assert suite.n is None


def test_awp_costs_eight_times_as_many_passes_as_nuat2_wa() -> None:
    """Section 6.2, by the exact passes of a batch in each epoch of both rows."""

    def passes(recipe: str) -> int:
        config = replace(RECIPES[recipe](), precision="fp32")
        state = TrainingState.start(config, TinyConv(classes=3), torch.device("cpu"))
        updater = Updater(config, state, ALONE, steps=config.epochs, batches=1)
        x, y = images(2, 3, 6, torch.float32, 8 / 255), labels(2, 3)
        for state.epoch in range(config.epochs):
            updater.update([Batch(x=x, y=y, index=torch.arange(2))])
            state.step += 1
        return state.forwards + state.backwards

    (number,) = [number for number in paper.numbers() if number.table == "section-6.2"]
    multiple = passes(number.recipe) / passes("nuat2-wa-cifar10-wrn-34-10")
    assert multiple == pytest.approx(8.02, abs=0.005)
    assert round(multiple) == number.value


@pytest.mark.parametrize("name", [name for name in paper.TABLES if name != "2-cifar10"])
def test_each_recipe_quotes_its_row_whole_in_its_first_line(name: str) -> None:
    for row in paper.table(name):
        line = (RECIPES[row.recipe].__doc__ or "").splitlines()[0]
        match = re.match(r"Table (1a|1b|2 \(.+?\)), ([\w-]+)(?: \((\d+)(?: \+ (\d+))? epochs\))?: .*\.$", line)
        assert match, line
        assert (TITLES[match[1]], match[2]) == (name, row.method)
        accuracies = {quantity: value for quantity, value in row.values.items() if quantity in ATTACKS.values()}
        assert quoted(line) == accuracies
        counts = {"epochs": match[3], "two-step epochs": match[4]}
        assert {key: float(value) for key, value in counts.items() if value} == {
            key: row.values[key] for key in counts if key in row.values
        }


def test_other_recipes_that_quote_the_paper_agree_with_it() -> None:
    (row,) = [row for row in paper.table("2-mnist") if row.method == "NuAT-WA"]
    found = quoted(mnist.nuat_mnist.__doc__ or "")
    assert len(found) == 3
    assert found.items() <= row.values.items()
    ours = {row.recipe for name in paper.TABLES for row in paper.table(name)} | {"nuat-mnist"}
    for name, recipe in RECIPES.items():
        assert name in ours or not re.match("Table ", recipe.__doc__ or ""), name


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"unknown table '2-mnst'\. Did you mean '2-mnist'\? Tables: 1a, 1b,"):
        paper.table("2-mnst")
    with pytest.raises(InputError, match=r"unknown table 'section-5.1'\. Tables: 1a"):
        paper.table("section-5.1")
