"""Whole runs on image files of every mode and size, in memory and streamed, with bad files among them."""

import dataclasses
import json
import multiprocessing
import subprocess
from pathlib import Path
from typing import Any

import pytest
from image_files import write_folder, write_shards
from training.small_runs import (
    BATCH_NORM,
    PowerCut,
    Watcher,
    assert_same_run,
    cut,
    metrics,
    small_config,
    terminate,
    train,
)

import nuat
from nuat.config import DataConfig, TrainConfig
from nuat.core.schedules import Ramp
from nuat.data import StreamedSet
from nuat.defenses import NuAT
from nuat.errors import InputError
from nuat.training.signals import Interrupted

N = {"train": 60, "test": 15}
BATCHES = 3


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("files")
    return {
        "folder": write_folder(home / "folder", N),
        "shards": write_shards(home / "shards", N, a_shard=8),
        "bad": spoil(write_folder(home / "bad", N)),
        "cache": home / "cache",
    }


def spoil(root: Path) -> Path:
    """Cut two training files and a test file short."""
    for name in ("train/a/0012.png", "train/b/0028.jpg", "test/c/0014.png"):
        file = root / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return root


def config(roots: dict[str, Path], kind: str, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"image_size": 16, "validation": 6, "crop_scale": 0.3, "flip": True}
    if changes.get("loading") == "stream":
        settings["workers"] = 2
    data = DataConfig(path=roots[kind], cache=roots["cache"], **(settings | changes))
    return small_config(roots[kind], data=data, model=BATCH_NORM, defense=NuAT(lam=Ramp(peak=2.0)), batch_size=20)


@pytest.mark.slow
@pytest.mark.parametrize("loading", ["memory", "stream"])
@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_run_on_files_of_every_mode_learns(roots: dict[str, Path], tmp_path: Path, kind: str, loading: str) -> None:
    long = dataclasses.replace(config(roots, kind, loading=loading), epochs=6)
    run = train(long, tmp_path / "run")
    lines = metrics(tmp_path / "run", "epoch")
    assert len(lines) == 6
    assert run.summary["steps"] == 6 * BATCHES
    # the classes differ by brightness, which is soon learnt
    assert lines[-1]["train"]["clean_loss"] < 0.8 * lines[0]["train"]["clean_loss"]
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (split["train"], split["validation"], split["test"]) == (54, 6, 15)
    assert (split["skipped"], split["skipped_names"]) == (0, [])
    del run
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_bad_files_end_a_run_before_it_begins_or_are_left_out_and_recorded(
    roots: dict[str, Path], tmp_path: Path, loading: str
) -> None:
    with pytest.raises(
        InputError, match=r"0012\.png cannot be read .*And so for 2 more of 75 images: .*0028\.jpg, .*0014\.png"
    ):
        train(config(roots, "bad", loading=loading), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.warns(RuntimeWarning, match=r"3 of 75 images cannot be decoded and are left out"):
        run = train(config(roots, "bad", loading=loading, on_bad="skip"), tmp_path / "run")
    assert run.summary["steps"] == 2 * BATCHES
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (split["train"], split["test"], split["skipped"]) == (52, 14, 3)
    assert [Path(name).name for name in split["skipped_names"]] == ["0012.png", "0028.jpg", "0014.png"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_streamed_run_is_resumed_bit_for_bit_with_any_number_of_workers(
    roots: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    streamed = config(roots, kind, loading="stream")
    train(streamed, tmp_path / "whole")
    for name, at, act, workers in (("terminated", BATCHES + 1, terminate, 0), ("cut", BATCHES + 2, cut, 1)):
        with pytest.raises(PowerCut if act is cut else Interrupted):
            train(streamed, tmp_path / name, {at: act})
        other = dataclasses.replace(streamed, data=dataclasses.replace(streamed.data, workers=workers))
        train(other, tmp_path / name, resume=True)
        assert_same_run(tmp_path / name, tmp_path / "whole")
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_group_that_is_asked_to_end_within_an_update_of_several_batches_saves_and_goes_on(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = dataclasses.replace(config(roots, "folder", loading="stream", workers=1), batch_size=5, accumulate=4)
    train(streamed, tmp_path / "whole")
    original = StreamedSet._asked_to_end

    def noticed(self: StreamedSet) -> bool:
        terminate()
        return original(self)

    def end_workers() -> None:
        (worker,) = multiprocessing.active_children()
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # by another process than its parent
        worker.join()

    monkeypatch.setattr(StreamedSet, "_asked_to_end", noticed)
    with pytest.raises(Interrupted, match="batch 8; the state is saved"):
        train(streamed, tmp_path / "run", {1: end_workers})
    train(streamed, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_other_files_under_the_same_names_are_noticed_on_resuming(roots: dict[str, Path], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", N)
    streamed = config({**roots, "set": root}, "set", loading="stream")
    with pytest.raises(Interrupted):
        train(streamed, tmp_path / "run", {1: terminate})
    first, second = (root / "train" / "a" / f"{i:04d}.jpg" for i in (0, 3))
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match="was begun with other training images"):
        train(streamed, tmp_path / "run", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_phases_change_the_size_of_the_training_images_alone(
    roots: dict[str, Path], tmp_path: Path, loading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = {"progressive_sizes": (8, 16, 24), "progressive_from": (0.0, 0.3, 0.7)}
    staged = dataclasses.replace(config(roots, "folder", loading=loading, **phases), epochs=4)
    seen: list[int] = []
    original = NuAT.loss

    def watching(self: NuAT, model: Any, x: Any, *rest: Any) -> Any:
        seen.append(x.shape[2])
        return original(self, model, x, *rest)

    monkeypatch.setattr(NuAT, "loss", watching)
    run = train(staged, tmp_path / "run")
    assert seen == [8] * 2 * BATCHES + [16] * BATCHES + [24] * BATCHES
    assert len(metrics(tmp_path / "run", "epoch")[-1]["validation"]["live"]) == 4
    assert run.model()(nuat.data.load(staged.data).validation.images / 255).shape == (6, 3)


def test_phases_are_refused_for_a_network_of_one_size(roots: dict[str, Path], tmp_path: Path) -> None:
    phases = {"progressive_sizes": (8, 16), "progressive_from": (0.0, 0.5)}
    fixed = dataclasses.replace(config(roots, "folder", **phases), model=small_config(tmp_path).model)
    with pytest.raises(InputError, match=r"data\.progressive_sizes=8,16: the model does not take images of 8 pixels"):
        nuat.run(fixed, out=tmp_path / "run", reporter=Watcher())
