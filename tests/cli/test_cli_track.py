"""``nuat train --track``: trackers by name, with the accuracies of the evaluation at the end."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli.cli_runs import FAST, CommandLine

from nuat.training import hosted_trackers

QUICK = (*FAST[:2], "--epochs", "1", *FAST[4:-1], "clean,pgd-2")


class Kept:
    """A tracker that keeps what it hears, for the test."""

    calls: list[Any] = []  # noqa: RUF012  # one list for the instance that the command makes

    def start(self, run: Any) -> None:
        self.calls.append(run)

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.calls.append(epoch)

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Any]) -> None:
        self.calls.append((dict(results), list(pictures)))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(Kept, "calls", [])
    monkeypatch.setitem(hosted_trackers.TRACKERS, "wandb", Kept)
    return Kept.calls


def test_a_tracker_gets_the_final_robustness(images: Path, kept: list[Any], nuat: CommandLine) -> None:
    nuat.done("train", *QUICK, "--data.path", images, "--out", "run", "--track", "wandb")
    start, epoch, (results, pictures) = Kept.calls
    assert (start.recipe, epoch) == ("quickstart", 1)
    written = {row["name"]: row["accuracy"] for row in json.loads(Path("run/evaluation.json").read_text())["results"]}
    assert {name: results[f"test/{name}"] for name in written} == written
    assert "test/worst-case" in results
    assert pictures == ["validation images, clean and attacked"]
    assert not Path("run/tensorboard").exists()
    Kept.calls.clear()
    nuat.done("train", "--resume", "run", "--track", "wandb,tensorboard")
    (again, (resumed, _)) = Kept.calls
    assert again.epoch == 1
    assert resumed["test/clean"] == written["clean"]
    assert Path("run/tensorboard").is_dir()


def test_an_unknown_or_missing_tracker_is_refused_before_anything_is_read(
    nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ("--data.path", "missing.npz", "--out", "run")
    assert "--track wnb: no such tracker. Did you mean 'wandb'?" in nuat.refused("train", *missing, "--track", "wnb")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "pip install mlflow" in nuat.refused("train", *missing, "--track", "tensorboard,mlflow")


def test_track_none_follows_nothing(images: Path, nuat: CommandLine) -> None:
    nuat.done("train", *QUICK, "--data.path", images, "--out", "run", "--track", "none")
    assert not Path("run/tensorboard").exists()
