"""Results of other settings in the folder are refused by name, and nothing on the disk changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import (
    FEW,
    MAIN,
    NAMES,
    NORMAL,
    NUAT,
    SMALL,
    plan,
    run,
    runner,
    snapshot,
    toml,
    write_images,
)

from nuat.errors import InputError
from nuat.recipes import RECIPES

ROWS = (
    {"recipe": NORMAL, "label": "Normal", "seeds": [0, 1]},
    {"recipe": NUAT, "label": "NuAT", "seeds": [0, 1], "set": {"defense.lam.peak": 2}},
)
ADVICE = "Results of different settings are never mixed: give this campaign another --out."


def refused(text: str, where: str, difference: str, **arguments: Any) -> None:
    campaign = plan(text, **arguments)
    before = snapshot(Path())
    with pytest.raises(InputError) as caught:
        runner(campaign)
    message = str(caught.value)
    assert message.startswith(where)
    assert difference in message
    assert message.endswith(ADVICE)
    assert len(message.splitlines()) == 1
    assert snapshot(Path()) == before


@pytest.mark.parametrize(
    ("name", "given", "difference"),
    [
        ("epochs", 3, "epochs=2, not 3"),
        ("threat.eps", 0.2, "threat.eps=0.1, not 0.2"),
        ("optimizer.lr.peak", 0.2, "optimizer.lr.peak=0.1, not 0.2"),
        ("data.validation", 15, "data.validation=12, not 15"),
        ("data.path", "other.npz", "data.path=images.npz, not other.npz"),
        ("averaging.tau", 0.9, "averaging.tau=None, not 0.9"),
    ],
)
def test_another_setting(finished: Path, name: str, given: Any, difference: str) -> None:
    write_images(Path("other.npz"))
    recorded = json.loads((finished / NAMES[0] / "config.json").read_text())["config"]["data"]["path"]
    difference = difference.replace("images.npz", recorded)
    where = f"out/{NAMES[0]}: was begun with {difference}."
    refused(toml(*ROWS, common={**SMALL, name: given}), where, difference)
    refused(toml(*ROWS), where, difference, settings=((name, str(given)),))


def test_a_recipe_that_has_changed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name, another version: a recipe whose weight decay was 5e-4."""
    monkeypatch.setitem(RECIPES, NORMAL, lambda: changed)
    import dataclasses

    from nuat.recipes.mnist_small import normal

    changed = dataclasses.replace(normal(), optimizer=dataclasses.replace(normal().optimizer, weight_decay=0.0))
    refused(toml(*ROWS), f"out/{NAMES[0]}: was begun with", "optimizer.weight_decay=0.0005, not 0.0")


def test_another_defense_under_the_same_name(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, NORMAL, RECIPES["fgsm-at-mnist-small-cnn"])
    refused(toml(*ROWS), f"out/{NAMES[0]}: was begun with", "defense.class=Standard, not FGSMAT")


@pytest.mark.parametrize(
    ("suite", "difference"),
    [
        ({**MAIN, "attacks": ["clean", "pgd-2"]}, "attacks=('clean', 'pgd-2', 'pgd-4'), not ('clean', 'pgd-2')"),
        ({**MAIN, "attacks": ["clean", "pgd-4", "pgd-2"]}, "attacks="),
        ({**MAIN, "n": 15}, "n=30, not 15"),
        ({**MAIN, "images": "validation"}, "images=test, not validation"),
        ({**FEW, "n": 12}, "n=9, not 12"),
        ({**FEW, "n": "all"}, "n=9, not all 30"),
        ({**FEW, "images": "validation"}, "images=test, not validation"),
    ],
)
def test_another_suite_of_the_same_name(finished: Path, suite: dict[str, Any], difference: str) -> None:
    suites = (suite, FEW) if suite["name"] == "main" else (MAIN, suite)
    refused(toml(*ROWS, suites=suites), f"out/{NAMES[0]}/evaluation-{suite['name']}.json: was made with", difference)


@pytest.mark.parametrize(("name", "given", "shown"), [("eps", 0.2, "eps=0.2, not 0.1"), ("seed", 5, "seed=5, not 0")])
def test_an_evaluation_that_was_made_otherwise(finished: Path, name: str, given: Any, shown: str) -> None:
    path = finished / NAMES[0] / "evaluation-main.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, name: given}))
    refused(toml(*ROWS), f"{path}: was made with", shown)


def test_a_half_done_row_of_other_settings(finished: Path) -> None:
    (finished / NAMES[0] / "row.json").unlink()
    refused(toml(*ROWS, common={**SMALL, "epochs": 3}), f"out/{NAMES[0]}: was begun with", "epochs=2, not 3")


def test_a_damaged_config(finished: Path) -> None:
    (finished / NAMES[1] / "config.json").write_text("{")
    refused(toml(*ROWS), f"out/{NAMES[1]}/config.json: damaged", "does not hold the settings of a run")


def test_the_settings_that_change_no_weights_may_differ(finished: Path) -> None:
    before = snapshot(finished)
    free = {"monitors.on-overfitting": "stop", "checkpoint-every": 2, "evaluation.batch-size": 7}
    assert set(run(plan(toml(*ROWS, common={**SMALL, **free}))).values()) == {"done"}
    assert snapshot(finished) == before


@pytest.mark.slow
def test_another_setting_of_a_row_has_a_folder_of_its_own(finished: Path) -> None:
    before = snapshot(finished)
    other = f"{NUAT}_defense.lam.peak-3/seed-0"
    found = run(plan(toml(*ROWS, {"recipe": NUAT, "set": {"defense.lam.peak": 3}}), seeds=[0]))
    assert found == {NAMES[0]: "done", NAMES[2]: "done", other: "done"}
    after = snapshot(finished)
    assert {name: after[name] for name in before} == before
    assert (finished / other / "row.json").is_file()


def test_a_label_may_change(finished: Path) -> None:
    rows = ({**ROWS[0], "label": "no defense"}, ROWS[1])
    before = snapshot(finished)
    assert set(run(plan(toml(*rows))).values()) == {"done"}
    assert snapshot(finished) == before
