"""Runs of one method: what may differ between its seeds."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from nuat.recipes import RECIPES
from nuat.records.finished_runs import finished_runs
from nuat.records.methods import differences, method_settings, setting_text
from nuat.records.search import find_runs
from nuat.records.settings import flat, flat_items, has_effect, to_json
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
    assert free["processes"] == {"device", "data.workers", "data.path", "data.cache", "data.download"}
    assert free["resume"] >= {"device", "data.workers", "checkpoint_every", "checkpoint_batches", "evaluation.n"}
    assert "data.path" not in free["resume"]
    assert free["method"] == free["resume"] | free["processes"]


def test_flat_names_and_their_text() -> None:
    values = {"a": {"b": {"c": 1}}, "a.b.c": 2, "empty": {}}
    assert list(flat_items(values)) == [("a.b.c", 1), ("a.b.c", 2)]
    assert method_settings({"a": None, "b": False, "c": {"d": 0}, "seed": 3, "device": "cpu"}) == {"c.d": 0}
    assert differences([{"x": {"y": {"z": 8 / 255}}}, {"x": {"y": {"z": True}}}]) == ["y.z 8/255", "y.z true"]
    assert setting_text(["/home/me/a.npz", 0.3, None]) == ".../a.npz,0.3,none"
