"""Trackers hear the settings, every epoch and the results; their failures are said once and end nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.small_runs import BATCHES, EPS, Watcher, assert_same_run, interrupt, metrics, small_config, write_images

import nuat
from nuat.config import ThreatConfig
from nuat.data import load
from nuat.distributed.world import ALONE
from nuat.errors import NonFiniteError
from nuat.progress import Reporter
from nuat.training import bookkeeping
from nuat.training.signals import Interrupted
from nuat.training.trackers import Picture, TrackedRun, Tracking, numbers
from nuat.training.validation import clean_and_attacked


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


class Diary:
    """Keeps what a tracker hears, and fails in the method that it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []
        self.epochs: dict[int, Mapping[str, float]] = {}
        self.run: TrackedRun | None = None
        self.results: Mapping[str, float] = {}
        self.pictures: Mapping[str, Picture] = {}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise ConnectionError(f"the server\nis [bold]down in {name}")

    def start(self, run: TrackedRun) -> None:
        self.run = run
        self._call("start")

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs[epoch] = metrics
        self._call("log")

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        self.results, self.pictures = results, pictures
        self._call("finish")


def test_a_tracker_hears_settings_epochs_results_and_sees_pictures(images: Path, tmp_path: Path) -> None:
    diary, config = Diary(), small_config(images)
    finished = nuat.run(config, out=tmp_path / "run", recipe="mine", trackers=[diary])
    assert diary.calls == ["start", "log", "log", "finish"]
    run = diary.run
    assert run is not None
    assert (run.folder, run.recipe, run.epoch) == (tmp_path / "run", "mine", 0)
    assert run.settings["optimizer.lr.peak"] == config.optimizer.lr.peak  # type: ignore[attr-defined]
    assert run.settings["threat.eps"] == EPS
    assert run.settings["data.path"] == str(images)
    for line in metrics(tmp_path / "run", "epoch"):
        assert diary.epochs[line["epoch"]] == {n: v for n, v in numbers(line).items() if n != "time"}
    assert diary.results["final/best_validation"] == finished.summary["best_validation"]
    ((name, pixels),) = diary.pictures.items()
    assert name == "validation images, clean and attacked"
    assert pixels.dtype == np.uint8
    shown = load(config.data).validation
    assert pixels.shape == (2 * shown.image_size[0], 8 * shown.image_size[1], 3)
    moved = np.abs(pixels[: shown.image_size[0]].astype(int) - pixels[shown.image_size[0] :])
    assert 0.8 * EPS * 255 < moved.max() <= EPS * 255 + 1
    assert not (tmp_path / "run" / "tensorboard").exists()  # it is one of the trackers


def test_trackers_change_no_bit_of_a_run(images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    nuat.run(config, out=tmp_path / "a", trackers=[Diary(), Diary()])
    nuat.run(config, out=tmp_path / "b", trackers=[])
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_named_once_and_ends_nothing(method: str, images: Path, tmp_path: Path) -> None:
    bad, good, watcher = Diary(method), Diary(), Watcher()
    finished = nuat.run(small_config(images), out=tmp_path / "run", reporter=watcher, trackers=[bad, good])
    assert finished.summary["epochs"] == 2
    assert good.calls == ["start", "log", "log", "finish"]
    assert bad.calls.count(method) == 1
    assert bad.calls[-1] == method
    (said,) = [text for text in watcher.messages if "Diary" in text]
    assert said == f"warning: Diary follows the run no more: the server is [bold]down in {method}"


def test_a_stopped_run_closes_its_trackers_and_goes_on_under_the_same_digits(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    config, first, second, other = small_config(Path(images.name)), Diary(), Diary(), Diary()
    stop = Watcher({BATCHES + 2: interrupt})
    with pytest.raises(Interrupted):
        nuat.run(config, out=tmp_path / "run", reporter=stop, trackers=[first])
    assert first.calls == ["start", "log", "finish"]
    assert (first.results, first.pictures) == ({}, {})
    nuat.run(config, out=tmp_path / "run", resume=True, trackers=[second])
    assert second.calls == ["start", "log", "finish"]
    assert list(second.epochs) == [2]
    nuat.run(config, out=tmp_path / "other", trackers=[other])
    assert first.run is not None
    assert second.run is not None
    assert other.run is not None
    assert (first.run.id, second.run.epoch) == (second.run.id, 1)
    assert first.run.settings == second.run.settings
    assert other.run.id != first.run.id
    assert first.run.id.isalnum()
    (tmp_path / "run" / "environment.json").write_text("{}")  # of an older version
    old = Diary()
    nuat.run(config, out=tmp_path / "run", resume=True, trackers=[old])
    assert old.run is not None
    assert old.run.id not in ("", first.run.id)


def test_a_run_that_is_refused_starts_no_tracker(images: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    diary = Diary()
    with pytest.raises(nuat.errors.InputError, match="exists and is not empty"):
        nuat.run(small_config(images), out=tmp_path / "run", trackers=[diary])
    assert diary.calls == []


class Follower:
    """A process that is not the first."""

    leads = False
    size = 2


def test_only_the_first_process_is_followed() -> None:
    for world, heard in ((ALONE, ["start", "log", "finish"]), (Follower(), [])):
        diary = Diary()
        with Tracking([diary], Reporter(), world) as tracking:  # type: ignore[arg-type]
            tracking.start(TrackedRun(id="0", folder=Path(), recipe="mine", settings={}))
            tracking.log(1, {"lr": 0.1, "kind": "epoch", "averaged": True})
        assert diary.calls == heard
        assert bool(tracking) == bool(heard)
        assert diary.epochs == ({1: {"lr": 0.1}} if heard else {})


def test_a_model_that_has_diverged_gives_no_pictures(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*arguments: Any, **settings: Any) -> Any:
        raise NonFiniteError("infinite")

    monkeypatch.setattr(bookkeeping, "clean_and_attacked", diverged)
    diary = Diary()
    nuat.run(small_config(images), out=tmp_path / "run", trackers=[diary])
    assert diary.calls[-1] == "finish"
    assert diary.pictures == {}


def test_pictures_are_the_images_and_the_attack_of_the_validation(images: Path) -> None:
    shown = load(small_config(images).data).validation
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 3))
    pixels = clean_and_attacked(model, shown, threat=ThreatConfig(eps=EPS), count=2)
    clean = torch.from_numpy(pixels[:8]).permute(2, 0, 1)
    assert any(torch.equal(clean[:, :, :8], image) for image in shown.images)
    grey = clean_and_attacked(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)),
        nuat.data.ImageSet(shown.images[:, :1], shown.labels),
        threat=ThreatConfig(eps=EPS),
        attack="gama-2",
    )
    assert (grey[..., 0] == grey[..., 2]).all()
