"""A campaign whose recipes and attacks are the user's own, in a file next to the campaign's."""

import json
from pathlib import Path

import pytest
from campaign.campaign_runs import NORMAL, SMALL, run, runner, toml

from nuat.campaign import load
from nuat.errors import InputError

MY = """
from dataclasses import dataclass, replace

from nuat.core.losses import cross_entropy
from nuat.defenses import BatchLoss, Defense
from nuat.recipes import find
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Mine(Defense):
    def loss(self, model, x, y, step, state):
        clean = cross_entropy(model(x), y)
        return BatchLoss(clean, {"clean_loss": clean.detach()})


def recipe():
    return replace(find("quickstart")(), defense=Mine(), data=find("nuat-mnist")().data)


def darken(model, x, y, eps):
    return (x - 0.99 * eps).clamp(min=0)


def make_net(channels, classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size[0] * image_size[1], classes))
"""
WITHOUT_WIDTH = {name: value for name, value in SMALL.items() if name != "model.width"}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    Path("plans").mkdir()
    Path("plans/my.py").write_text(MY)


def write(*rows: dict[str, object], **more: object) -> str:
    Path("plans/own.toml").write_text(toml(*rows, **more))  # type: ignore[arg-type]
    return "plans/own.toml"


@pytest.mark.slow
def test_recipes_and_attacks_of_a_file_are_rows_like_others() -> None:
    suites = ({"name": "main", "attacks": ["clean", "my.py:darken"]},)
    file = write(
        {"recipe": "my.py:recipe", "label": "Mine", "seeds": [0, 1]}, {"recipe": NORMAL, "seeds": [0]}, suites=suites
    )
    campaign = load(file)
    assert [row.method for row in campaign.rows] == ["my.py-recipe", "my.py-recipe", NORMAL]
    assert campaign.rows[0].recipe.startswith("my.py:recipe@")
    assert set(run(campaign).values()) == {"done"}
    row = json.loads(Path("out/my.py-recipe/seed-0/row.json").read_text())
    assert row["label"] == "Mine"
    assert [name.partition("@")[0] for name in row["suites"]["main"]["accuracies"]][:2] == ["clean", "my.py:darken"]
    assert set(run(load(file)).values()) == {"done"}  # nothing is done again


def test_a_network_is_relative_to_the_file_and_to_the_current_folder_on_the_command_line() -> None:
    row = {"recipe": NORMAL, "set": {"model.name": "my.py:make_net"}}
    file = write(row, common=WITHOUT_WIDTH)
    name = load(file).rows[0].config.model.name
    assert name.startswith("my.py:make_net@")
    assert load(file).rows[0].method.endswith("model.name-my.py-make_net")
    file = write({"recipe": NORMAL}, common=WITHOUT_WIDTH)
    assert load(file, settings=(("model.name", "plans/my.py:make_net"),)).rows[0].config.model.name == name


def test_changed_code_is_never_mixed() -> None:
    file = write({"recipe": "my.py:recipe"})
    run(load(file))
    Path("plans/my.py").write_text(MY + "# changed\n")
    with pytest.raises(InputError, match=r"was begun with other code, my.py:Mine@.* never mixed: give this campaign"):
        runner(load(file))


def test_a_place_is_no_part_of_a_name() -> None:
    file = write({"recipe": f"{Path('plans/my.py').resolve()}:recipe"})
    (row,) = load(file).rows
    assert (row.method, row.label) == ("my.py-recipe", "my.py:recipe")


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("my.py:recip", "row 1: my.py:recip: the file has no 'recip'. Did you mean 'recipe'?"),
        ("none.py:recipe", "row 1: .*none.py: no such file"),
        ("my.py:darken", "row 1: my.py:darken: TypeError"),
    ],
)
def test_mistakes_name_the_row(recipe: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("?", r"\?")):
        load(write({"recipe": recipe}))


def test_code_that_fails_in_training_fails_its_row() -> None:
    Path("plans/my.py").write_text(MY.replace("clean = cross_entropy(model(x), y)", "clean = model(x).nothing"))
    write({"recipe": "my.py:recipe"}, {"recipe": NORMAL})
    assert set(run(load("plans/own.toml")).values()) == {"failed", "done"}
    row = json.loads(Path("out/my.py-recipe/seed-0/row.json").read_text())
    assert row["reason"].startswith("plans/my.py, line 13: AttributeError: ")
    assert "Traceback" in row["traceback"]
