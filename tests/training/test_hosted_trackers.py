"""Weights & Biases and MLflow, as stand-ins with the names of their API; and the names that --track takes."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training.small_runs import BATCHES, Watcher, interrupt, metrics, small_config, write_images

import nuat
from nuat.errors import InputError
from nuat.training.hosted_trackers import MLflow, WandB, named_trackers
from nuat.training.signals import Interrupted
from nuat.training.tensorboard import TensorBoard


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


class FakeWandb:
    """wandb.init(...) -> a run with log, summary and finish; wandb.Image."""

    def __init__(self) -> None:
        self.settings: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, Any], int | None]] = []
        self.summary: dict[str, float] = {}
        self.finished = 0

    def init(self, **settings: Any) -> Any:
        self.settings.append(settings)
        return self

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self.logged.append((data, step))

    def finish(self) -> None:
        self.finished += 1

    @staticmethod
    def Image(pixels: Any) -> Any:  # noqa: N802
        return ("image", pixels.shape)


class FakeMlflow:
    """The fluent API of mlflow, with its limits."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.active: dict[str, Any] | None = None

    def active_run(self) -> Any:
        return self.active

    def search_runs(self, *, filter_string: str, max_results: int, output_format: str) -> list[Any]:
        assert (max_results, output_format) == (1, "list")
        found = [run for run in self.runs if filter_string == f"tags.nuat_run = '{run['tags']['nuat_run']}'"]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run["id"])) for run in found]

    def start_run(self, run_id: Any = None, *, run_name: Any = None, nested: bool = False, tags: Any = None) -> None:
        assert self.active is None or nested
        if run_id is None:
            new = {"id": len(self.runs), "name": run_name, "tags": tags, "params": {}, "calls": [], "metrics": []}
            self.runs.append({**new, "images": {}, "status": "RUNNING"})
            run_id = new["id"]
        self.active = self.runs[run_id]

    def log_params(self, params: dict[str, str]) -> None:
        assert self.active is not None
        assert len(params) <= 100
        assert all(len(value) <= 6000 for value in params.values())
        assert not set(params) & set(self.active["params"])  # a value may not change
        self.active["calls"].append(len(params))
        self.active["params"] |= params

    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        assert self.active is not None
        self.active["metrics"].append((step, values))

    def log_image(self, image: Any, artifact_file: str) -> None:
        assert self.active is not None
        self.active["images"][artifact_file] = image.shape

    def end_run(self, status: str) -> None:
        assert self.active is not None
        self.active["status"], self.active = status, None


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]  # it has the functions that are called
    return fake


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    return fake


def test_wandb_gets_settings_epochs_pictures_and_results(
    wandb: FakeWandb, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "digits")
    nuat.run(small_config(images), out=tmp_path / "run", recipe="mine", trackers=[WandB()])
    (settings,) = wandb.settings
    assert (settings["project"], settings["name"], settings["dir"]) == ("digits", "run", str(tmp_path / "run"))
    assert settings["resume"] == "allow"
    assert (settings["config"]["recipe"], settings["config"]["batch_size"]) == ("mine", 32)
    *epochs, (pictures, _) = wandb.logged
    lines = metrics(tmp_path / "run", "epoch")
    assert [(data["validation/live/pgd"], step) for data, step in epochs] == [
        (line["validation"]["live"]["pgd"], line["epoch"]) for line in lines
    ]
    assert pictures == {"validation images, clean and attacked": ("image", (16, 64, 3))}
    assert wandb.summary["final/best_epoch"] in (1, 2)
    assert wandb.finished == 1


def test_mlflow_gets_settings_epochs_pictures_and_results(mlflow: FakeMlflow, images: Path, tmp_path: Path) -> None:
    nuat.run(small_config(images), out=tmp_path / "run", recipe="mine", trackers=[MLflow()])
    (run,) = mlflow.runs
    assert (run["name"], run["status"]) == ("run", "FINISHED")
    assert run["params"]["recipe"] == "mine"
    assert run["params"]["threat.eps"] == "0.1"
    assert [step for step, _ in run["metrics"]] == [1, 2, None]
    assert "validation/live/pgd" in run["metrics"][0][1]
    assert "final/best_validation" in run["metrics"][2][1]
    assert run["images"] == {"validation images, clean and attacked.png": (16, 64, 3)}


def test_mlflow_takes_many_and_long_settings_in_parts(mlflow: FakeMlflow, tmp_path: Path) -> None:
    from nuat.training.trackers import TrackedRun

    settings = {f"setting.{i}": "x" * 9000 for i in range(250)}
    MLflow().start(TrackedRun(id="0", folder=tmp_path, recipe="mine", settings=settings))
    assert mlflow.runs[0]["calls"] == [100, 100, 51]


def test_a_resumed_run_goes_on_in_its_own(wandb: FakeWandb, mlflow: FakeMlflow, images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    with pytest.raises(Interrupted):
        nuat.run(config, out=tmp_path / "run", reporter=Watcher({BATCHES + 1: interrupt}), trackers=[WandB(), MLflow()])
    assert mlflow.runs[0]["status"] == "KILLED"
    mlflow.start_run(run_name="of the user", tags={"nuat_run": ""})
    nuat.run(config, out=tmp_path / "run", resume=True, trackers=[WandB(), MLflow()])
    assert len({settings["id"] for settings in wandb.settings}) == 1
    assert wandb.finished == 2
    assert mlflow.runs[0]["status"] == "FINISHED"
    assert [step for step, _ in mlflow.runs[0]["metrics"]] == [1, 2, None]


def test_names() -> None:
    assert named_trackers(("none",)) == []
    assert [type(tracker) for tracker in named_trackers(("tensorboard",))] == [TensorBoard]
    for names, message in (
        (
            ("wandbb",),
            r"--track wandbb: no such tracker. Did you mean 'wandb'\? Known: tensorboard, wandb, mlflow, none",
        ),
        (("tensorboard", "tensorboard"), r"--track tensorboard,tensorboard: give each tracker once"),
        (("tensorboard", "none"), r"--track none: no such tracker"),
    ):
        with pytest.raises(InputError, match=message):
            named_trackers(names)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"the tracker {name} needs .*: pip install {name}$"):
        named_trackers((name,))
