"""Campaign files: the fields that they take, and the rows that come of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import FEW, FOUR, MAIN, NAMES, NORMAL, NUAT, SMALL, plan, toml

from nuat import paper
from nuat.campaign import Campaign, built_in, load
from nuat.core.schedules import OneCycle, Ramp
from nuat.recipes import RECIPES


@pytest.fixture(scope="module")
def campaigns() -> dict[str, Campaign]:
    return {name: load(name) for name in built_in()}


def test_the_campaigns_that_come_with_nuat(campaigns: dict[str, Campaign]) -> None:
    tables = {"table-1a", "table-1b", "table-2-mnist", "table-2-imagenet100"}
    assert set(campaigns) >= {"mnist-small", "mnist-small-tuning", *tables}
    for name, campaign in campaigns.items():
        assert campaign.name == name
        assert (name in tables) == (campaign.table is not None)
        for row in campaign.rows:
            assert row.recipe in RECIPES
            assert row.suites
            assert row.label


def test_a_table_campaign_has_the_rows_of_the_table_and_its_attacks(campaigns: dict[str, Campaign]) -> None:
    for campaign in campaigns.values():
        if campaign.table is None:
            continue
        theirs = paper.table(campaign.table)
        assert {row.recipe for row in theirs if row.recipe} <= {row.recipe for row in campaign.rows}
        ours = {attack for suite in campaign.rows[0].suites for attack in suite.attacks}
        measured = {quantity for row in theirs for quantity in row.values}
        assert measured - ours <= {"# AT steps", "epochs", "two-step epochs"}
        assert all(suite.n is None and suite.images == "test" for row in campaign.rows for suite in row.suites)


def test_each_method_of_the_tuning_has_equally_many_trials_on_validation_images(campaigns: dict[str, Campaign]) -> None:
    rows = campaigns["mnist-small-tuning"].rows
    assert len({sum(row.recipe == recipe for row in rows) for recipe in {row.recipe for row in rows}}) == 1
    assert {suite.images for row in rows for suite in row.suites} == {"validation"}


def test_the_setting_past_the_paper_and_the_papers_differ_in_what_the_page_says(campaigns: dict[str, Campaign]) -> None:
    for name, data in (("cifar10-small", "cifar10"), ("cifar100-small", "cifar100")):
        rows = campaigns[name].rows
        assert [row.seed for row in rows[:6]] == [0, 0, 1, 1, 2, 2]
        papers, past = (row.config for row in rows[:2])
        assert papers.data.name == data
        assert replace(past, defense=papers.defense, averaging=papers.averaging) == papers
        assert past.defense == replace(papers.defense, scale="gaussian", lam=Ramp(peak=6.0))  # type: ignore[call-arg]
        alone = [row.settings for row in rows if row.recipe == rows[0].recipe and row.settings]
        assert len({name for ((name, _), *others) in alone if not others} - {"model.variant"}) == 6
        rivals = [
            row
            for row in rows
            if not row.recipe.startswith(("nuat", "robust")) and "defense.smoothing" not in dict(row.settings)
        ]
        assert len({row.recipe for row in rivals}) == 5
        assert {(row.config.defense.smoothing, row.config.averaging) for row in rivals} == {(0.0, past.averaging)}


def test_each_batch_of_the_search_for_lambda_has_the_same_lambdas(campaigns: dict[str, Campaign]) -> None:
    found: dict[int, list[float]] = {}
    for row in campaigns["lambda-scale"].rows:
        found.setdefault(row.config.batch_size, []).append(row.config.defense.lam.peak)  # type: ignore[attr-defined]
        assert row.config.optimizer.lr.peak == 0.1 * (row.config.batch_size / 128) ** 0.5  # type: ignore[attr-defined]
    assert set(found) == {32, 128, 512}
    assert {tuple(sorted(lams)) for lams in found.values()} == {(0.5, 1.0, 2.0, 4.0, 8.0, 16.0)}


def test_rows_come_seed_by_seed_with_their_settings_and_suites() -> None:
    campaign = plan()
    assert campaign.name == "small"
    assert [row.name for row in campaign.rows] == NAMES
    assert [row.seed for row in campaign.rows] == [row.config.seed for row in campaign.rows] == [0, 1, 0, 1]
    assert [row.label for row in campaign.rows] == ["Normal", "Normal", "NuAT", "NuAT"]
    assert [[suite.name for suite in row.suites] for row in campaign.rows] == [["main", "few"], ["main"]] * 2
    assert [row.settings for row in campaign.rows] == [()] * 2 + [(("defense.lam.peak", "2"),)] * 2
    nuat = campaign.rows[2].config
    assert nuat.defense.lam.peak == 2.0  # type: ignore[attr-defined]
    assert (nuat.epochs, nuat.batch_size, nuat.model.width, nuat.data.path) == (2, 12, 4, Path("images.npz"))
    main, few = campaign.rows[0].suites
    assert (main.attacks, main.n, main.images, main.seeds) == (("clean", "pgd-2", "pgd-4"), None, "test", None)
    assert (few.attacks, few.n, few.seeds) == (("fgsm",), 9, (0,))


def test_what_a_row_leaves_out() -> None:
    (row,) = plan(toml({"recipe": NORMAL})).rows
    assert (row.label, row.seed, row.settings) == (NORMAL, 0, ())
    assert [row.seed for row in plan(toml({"recipe": NORMAL}, seeds=[4, 2])).rows] == [4, 2]
    assert [row.seed for row in plan(toml({"recipe": NORMAL, "seeds": [7]}, seeds=[4, 2])).rows] == [7]
    assert plan(toml({"recipe": NORMAL}, suites=({**MAIN, "n": "all"},))).rows[0].suites[0].n is None


@pytest.mark.parametrize(
    "form",
    [
        '[set]\n"data.validation" = 12\n"data.flip" = true\n"model.mean" = [0.5, 0.25]\n"model.std" = [1, 1]',
        "[set]\ndata.validation = 12\ndata.flip = true\nmodel = { mean = [0.5, 0.25], std = [1, 1] }",
        "[set.data]\nvalidation = 12\nflip = true\n[set.model]\nmean = [0.5, 0.25]\nstd = [1, 1]",
        'set = { "data.validation" = 12, data.flip = true, "model.mean" = "0.5,1/4", "model.std" = "1,1" }',
    ],
)
def test_settings_may_be_written_quoted_or_as_tables(form: str) -> None:
    rest = toml({"recipe": NORMAL}).partition("\n")[2]
    config = plan(f"{form}\n{rest}").rows[0].config
    assert (config.data.validation, config.data.flip) == (12, True)
    assert (config.model.mean, config.model.std) == ((0.5, 0.25), (1.0, 1.0))


def test_fractions_false_and_negative_numbers_reach_their_setting() -> None:
    row = {"recipe": NORMAL, "set": {"threat.eps": "8/255", "channels-last": False, "averaging.tau": 1e-05}}
    config = plan(toml(row)).rows[0].config
    assert (config.threat.eps, config.channels_last, config.averaging.tau) == (8 / 255, False, 1e-05)
    with pytest.raises(ValueError, match=r"row 1: .*lr\.peak=-0\.1"):
        plan(toml({"recipe": NORMAL, "set": {"optimizer.lr.peak": -0.1}}))


def test_a_row_overrides_the_campaign() -> None:
    row = plan(toml({"recipe": NORMAL, "set": {"epochs": 3}})).rows[0]
    assert row.config.epochs == 3
    assert row.method == f"{NORMAL}_epochs-3"


def test_the_command_line_overrides_the_campaign_and_its_rows() -> None:
    text = toml({"recipe": NORMAL, "set": {"optimizer.lr.peak": 0.3, "epochs": 3}}, {"recipe": NORMAL})
    one, other = plan(text, settings=(("optimizer.lr.peak", "0.2"), ("batch_size", "24"))).rows
    for row in (one, other):
        assert row.config.optimizer.lr == OneCycle(peak=0.2)
        assert row.config.batch_size == 24
    assert (one.config.epochs, other.config.epochs) == (3, 2)
    assert one.settings == (("epochs", "3"),)
    assert one.method == f"{NORMAL}_epochs-3"


def test_rows_that_the_command_line_makes_equal_are_there_twice() -> None:
    rows = [{"recipe": NORMAL, "set": {"checkpoint-every": n}} for n in (1, 2)]
    with pytest.raises(ValueError, match=f"the row {NORMAL}/seed-0 is there twice"):
        plan(toml(*rows), settings=(("checkpoint_every", "3"),))


def test_the_command_lines_seeds_replace_those_of_every_row() -> None:
    campaign = plan(seeds=(5, 0))
    assert [row.seed for row in campaign.rows] == [5, 0, 5, 0]
    assert [len(row.suites) for row in campaign.rows] == [1, 2, 1, 2]


@pytest.mark.slow
def test_seeds_of_the_command_line_make_one_row_of_rows_that_differ_in_their_seeds() -> None:
    """A file may list one method twice to run its seeds at different times."""
    rows = ({"recipe": NUAT, "seeds": [0]}, {"recipe": NORMAL}, {"recipe": NUAT, "seeds": [1]})
    assert [row.seed for row in plan(toml(*rows)).rows] == [0, 0, 1]
    found = [row.name for row in plan(toml(*rows), seeds=(7, 8)).rows]
    assert found == [f"{recipe}/seed-{seed}" for recipe in (NUAT, NORMAL) for seed in (7, 8)]
    with pytest.raises(ValueError, match=f"the row {NUAT}/seed-0 is there twice"):
        plan(toml(*rows), seeds=(0, 0))


def test_rows_of_one_recipe_with_other_settings_stay_apart() -> None:
    """Their folders and, where the file gives none, their labels carry the settings by their full names."""
    settings: tuple[dict[str, Any], ...] = ({}, {"defense.lam.peak": 3}, {"optimizer.lr.peak": 3, "epochs": 4})
    named = [{"recipe": NUAT, "set": given} for given in settings]
    rows = plan(toml(*named, {"recipe": NUAT, "label": "mine", "set": {"epochs": 5}})).rows
    assert [row.method for row in rows] == [
        NUAT,
        f"{NUAT}_defense.lam.peak-3",
        f"{NUAT}_optimizer.lr.peak-3_epochs-4",
        f"{NUAT}_epochs-5",
    ]
    assert [row.label for row in rows] == [
        NUAT,
        f"{NUAT} (defense.lam.peak 3)",
        f"{NUAT} (optimizer.lr.peak 3, epochs 4)",
        "mine",
    ]


def test_a_methods_folder_is_a_file_name_whatever_its_settings() -> None:
    rows = plan(toml({"recipe": NUAT, "set": {"threat.eps": "8/255", "model.mean": [0.5], "model.std": [0.2]}})).rows
    assert rows[0].method == f"{NUAT}_threat.eps-8-255_model.mean-0.5_model.std-0.2"
    assert rows[0].name == f"{rows[0].method}/seed-0"


def test_a_suite_on_validation_images() -> None:
    (row,) = plan(toml({"recipe": NORMAL}, suites=({**MAIN, "images": "validation"}, FEW))).rows
    assert [suite.images for suite in row.suites] == ["validation", "test"]


def test_a_campaigns_name_is_its_files() -> None:
    Path("folder").mkdir()
    Path("folder/tried.v2.toml").write_text(FOUR)
    assert load("folder/tried.v2.toml").name == "tried.v2"
    assert SMALL["epochs"] == load("folder/tried.v2.toml").rows[0].config.epochs
