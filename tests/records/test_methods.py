"""Runs of one method: what may differ between its seeds."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nuat.config import OptimizerConfig
from nuat.recipes import RECIPES
from nuat.records.finished_runs import finished_runs
from nuat.records.methods import differences, method_settings, setting_text
from nuat.records.search import find_runs
from nuat.records.settings import completed, flat, flat_items, has_effect, to_json
from nuat.report.page.changes import changes
from nuat.report.page.groups import group


def write_seed(folder: Path, seed: int, **settings: Any) -> Path:
    """Write the settings of a run of the quickstart, some of them changed."""
    config = copy.deepcopy(to_json(RECIPES["quickstart"]()))
    config["seed"] = seed
    for name, value in settings.items():
        *parents, last = name.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"recipe": "quickstart", "config": config}))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint_batches": 7}, {"data__workers": 3}, {"device": "cpu"}, {"data__cache": "/elsewhere"},
        {"monitors__on_collapse": "stop"}, {"evaluation__n": 5}, {"checkpoint_every": 9},
    ],
)  # fmt: skip
def test_seeds_that_differ_in_what_changes_no_result_are_one_method(tmp_path: Path, settings: dict[str, Any]) -> None:
    folders = [write_seed(tmp_path / "0", 0), write_seed(tmp_path / "1", 1, **settings), write_seed(tmp_path / "2", 2)]
    (one,) = group(find_runs([tmp_path]).runs)
    assert [[run.seed for run in method.runs] for method in one.methods] == [[0, 1, 2]]
    assert [run.name for run in finished_runs(folders)] == ["quickstart"] * 3


def test_seeds_that_differ_in_what_is_trained_are_two_methods(tmp_path: Path) -> None:
    folders = [write_seed(tmp_path / "0", 0), write_seed(tmp_path / "1", 1, batch_size=32)]
    (one,) = group(find_runs([tmp_path]).runs)
    assert [method.label for method in one.methods] == ["quickstart (batch_size 64)", "quickstart (batch_size 32)"]
    assert [run.name for run in finished_runs(folders)] == [method.label for method in one.methods]


@pytest.mark.parametrize("name", ["on_overfitting", "on_collapse"])
def test_a_monitor_that_brakes_changes_what_is_trained(tmp_path: Path, name: str) -> None:
    settings = {f"monitors__{name}": "brake"}
    folders = [write_seed(tmp_path / "0", 0), write_seed(tmp_path / "1", 1, **settings)]
    (one,) = group(find_runs([tmp_path]).runs)
    labels = ["quickstart (monitors.on_x warn)", "quickstart (monitors.on_x brake)"]
    assert [method.label.replace(name, "on_x") for method in one.methods] == labels
    assert [str(change) for change in changes(one.methods[1].runs[0])] == [f"monitors.{name} brake (recipe: warn)"]
    assert len({run.name for run in finished_runs(folders)}) == 2


def test_settings_without_a_norm_are_of_linf(tmp_path: Path) -> None:
    old = write_seed(tmp_path / "0", 0)
    values = json.loads((old / "config.json").read_text())
    del values["config"]["threat"]["norm"]
    (old / "config.json").write_text(json.dumps(values))
    write_seed(tmp_path / "1", 1)
    (one,) = group(find_runs([tmp_path]).runs)
    assert len(one.methods) == 1
    assert one.setting.norm == "Linf"


def test_every_setting_that_may_differ_exists() -> None:
    names = flat(to_json(RECIPES["quickstart"]()))
    free = {between: {n for n in names if not has_effect(n, between)} for between in ("resume", "processes", "method")}  # type: ignore[arg-type]
    assert free["processes"] == {"device", "graph", "data.workers", "data.path", "data.cache", "data.download"}
    assert free["resume"] >= {"device", "data.workers", "checkpoint_every", "checkpoint_seconds", "evaluation.n"}
    assert "data.path" not in free["resume"]
    assert free["method"] == free["resume"] | free["processes"]


def test_flat_names_and_their_text() -> None:
    values = {"a": {"b": {"c": 1}}, "a.b.c": 2, "empty": {}}
    assert list(flat_items(values)) == [("a.b.c", 1), ("a.b.c", 2)]
    assert method_settings({"a": None, "b": False, "c": {"d": 0}, "seed": 3, "device": "cpu"}) == {"c.d": 0}
    assert differences([{"x": {"y": {"z": 8 / 255}}}, {"x": {"y": {"z": True}}}]) == ["y.z 8/255", "y.z true"]
    assert setting_text(["/home/me/a.npz", 0.3, None]) == ".../a.npz,0.3,none"


ADDED = {
    "quickstart": ("defense.norm", "defense.scale", "defense.regularised_attack", "model.variant", "model.activation",
                   "model.weights", "model.options", "data.loading", "data.on_bad", "data.progressive_sizes",
                   "data.progressive_from", "accumulate", "distributed", "threat.norm", "eps_warmup",
                   "optimizer.momentum_at_peak"),
    "fbf-mnist-small-cnn": ("defense.clamped_start", "eps_warmup", "optimizer.name"),
    "nuat-h-mnist-small-cnn": ("defense.regularised_attack", "data.loading"),
}  # fmt: skip
"""Settings that were added after the first records, by a recipe that has them at their defaults or otherwise."""


@pytest.mark.parametrize("recipe", ADDED)
def test_settings_that_an_old_record_lacks_have_the_values_of_before(recipe: str, tmp_path: Path) -> None:
    """Each was added with the behaviour before it as its class's default, whatever its recipe takes today."""
    config = RECIPES[recipe]()
    new = to_json(replace(config, eps_warmup=0.0, defense=type(config.defense)()))
    old = copy.deepcopy(new)
    for name in ADDED[recipe]:
        *parents, last = name.split(".")
        place = old
        for parent in parents:
            place = place[parent]
        del place[last]
    for seed, values in enumerate((old, new)):
        (tmp_path / str(seed)).mkdir()
        text = json.dumps({"recipe": recipe, "config": {**values, "seed": seed}})
        (tmp_path / str(seed) / "config.json").write_text(text)
    runs = find_runs([tmp_path]).runs
    assert flat(runs[0].config) == {**flat(runs[1].config), "seed": 0}
    (one,) = group(runs)
    assert [[run.seed for run in method.runs] for method in one.methods] == [[0, 1]]
    assert {run.name for run in finished_runs([tmp_path / "0", tmp_path / "1"])} == {recipe}


def test_a_setting_with_another_value_than_that_of_before_is_another_method(tmp_path: Path) -> None:
    write_seed(tmp_path / "1", 1, defense__regularised_attack="every")
    old = write_seed(tmp_path / "0", 0)
    values = json.loads((old / "config.json").read_text())
    del values["config"]["defense"]["regularised_attack"]
    (old / "config.json").write_text(json.dumps(values))
    (one,) = group(find_runs([tmp_path]).runs)
    assert [method.label for method in one.methods] == [
        f"quickstart (defense.regularised_attack {batches})" for batches in ("odd", "every")
    ]


def test_settings_of_an_unknown_class_get_what_every_class_has() -> None:
    """A defense of somebody's own, or records of the first days, which name no class."""
    values = {"defense": {"class": "Mine", "a": 1}, "optimizer": {"lr": {"peak": 0.1}}}
    found = completed(values)
    assert found["defense"] == {**values["defense"], "smoothing": 0.0}  # what every defense has
    assert found["optimizer"]["lr"] == {"peak": 0.1}
    assert found["optimizer"]["momentum_at_peak"] is None
    assert completed({"lr": {"class": "CyclicStep"}}, OptimizerConfig)["lr"]["drops"] == [0.86, 0.91]
