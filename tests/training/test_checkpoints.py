"""Files of weights and checkpoints: what goes in comes out, and what cannot be trusted stays out."""

import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from training.small_runs import (
    BATCH_NORM,
    CLASSES,
    EPS,
    LAM,
    SMALL_CNN,
    assert_equal,
    averaged,
    remembered,
    small_config,
    train,
    write_images,
)

import nuat
from nuat import data, models
from nuat.config import DataConfig, ModelConfig, ThreatConfig, TrainConfig
from nuat.defenses import NuAT2, NuATHybrid, Standard, State
from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint, read_info, read_torch, save_checkpoint
from nuat.training.run import Run
from nuat.training.state import TrainingState

TRAINED: list[nn.Module] = []


@dataclass(frozen=True, kw_only=True)
class Kept(Standard):
    """Standard training that keeps hold of the model."""

    def init_state(self, model: nn.Module) -> State:
        TRAINED.append(model)
        return {}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@dataclass
class Finished:
    """A finished run, its settings, and the model that it trained, as it was at the end."""

    run: Run
    config: TrainConfig
    model: nn.Module


def finish(config: TrainConfig, out: Path) -> Finished:
    run = train(config, out)
    return Finished(run, config, TRAINED[-1].eval())


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a run without an average, whose best epoch is its last: there are no validation images."""
    config = small_config(
        images,
        defense=Kept(),
        model=dataclasses.replace(BATCH_NORM, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        data=DataConfig(path=images, validation=0),
        channels_last=False,
    )
    return finish(config, tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def average(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    config = small_config(
        images,
        defense=Kept(),
        model=BATCH_NORM,
        data=DataConfig(path=images, validation=0),
        averaging=averaged(),
        channels_last=False,
    )
    return finish(config, tmp_path_factory.mktemp("average") / "run")


@pytest.fixture
def x(images: Path) -> Tensor:
    return next(iter(data.batches(data.load(DataConfig(path=images, validation=0)).test, 40)))[0]


@torch.no_grad()
def logits(model: nn.Module, x: Tensor) -> Tensor:
    assert not model.training
    found: Tensor = model(x)
    return found


# shipped weights


def test_loaded_models_are_the_trained_one_bit_for_bit(plain: Finished, x: Tensor) -> None:
    folder, expected = plain.run.folder, logits(plain.model, x)
    assert expected.shape == (40, CLASSES)
    for loaded in (
        nuat.load(folder),
        nuat.load(str(folder)),
        nuat.load(folder / "best.safetensors"),
        nuat.load(folder / "last.safetensors"),
        plain.run.model(),
    ):
        assert loaded is not plain.model
        assert torch.equal(logits(loaded, x), expected)


def test_a_state_dict_goes_into_a_given_model(plain: Finished, x: Tensor, tmp_path: Path) -> None:
    expected = logits(plain.model, x)
    for name, prefix in (("a.pt", ""), ("b.pth", "module.")):
        weights = {prefix + key: tensor for key, tensor in plain.model.state_dict().items()}
        torch.save(weights, tmp_path / name)
        model = models.build(plain.config.model, channels=3, classes=CLASSES, image_size=(8, 8))
        assert not torch.equal(logits(model.eval(), x), expected)
        assert nuat.load(tmp_path / name, model=model) is model
        assert torch.equal(logits(model, x), expected)
        with pytest.raises(InputError, match="pass model="):
            nuat.load(tmp_path / name)


def test_safetensors_go_into_a_given_model(plain: Finished, x: Tensor) -> None:
    model = models.build(plain.config.model, channels=3, classes=CLASSES, image_size=(8, 8))
    assert nuat.load(plain.run.folder, model=model) is model
    assert torch.equal(logits(model, x), logits(plain.model, x))


def test_the_average_is_shipped_where_there_is_one(average: Finished, x: Tensor) -> None:
    state = remembered(average.run.folder)
    for name in ("best.safetensors", "last.safetensors"):
        loaded = nuat.load(average.run.folder / name)
        assert_equal(dict(loaded.state_dict()), dict(state["average"]))
        assert not torch.equal(logits(loaded, x), logits(average.model, x))
        assert read_info(average.run.folder / name).averaged


def test_live_weights_are_shipped_where_there_is_no_average(plain: Finished) -> None:
    state = remembered(plain.run.folder)
    assert state["average"] is None
    for name in ("best.safetensors", "last.safetensors"):
        assert_equal(dict(nuat.load(plain.run.folder / name).state_dict()), dict(state["model"]))
        assert not read_info(plain.run.folder / name).averaged


def test_the_metadata_are_what_the_run_knew(plain: Finished, average: Finished, images: Path) -> None:
    info = read_info(plain.run.folder / "best.safetensors")
    assert info.model == plain.config.model
    assert info.model.mean == (0.5, 0.4, 0.3)
    assert (info.channels, info.image_size, info.classes) == (3, (8, 8), ("0", "1", "2"))
    assert info.threat == ThreatConfig(eps=EPS, pgd_alpha=EPS / 4)
    assert (info.recipe, info.epoch, info.averaged) == ("custom", 2, False)
    assert info.data == f"file {images.name}"
    assert info.nuat_version == nuat.__version__
    assert read_info(average.run.folder / "best.safetensors").model == BATCH_NORM


def test_equal_weights_are_equal_files(plain: Finished, tmp_path: Path) -> None:
    """Several entries of metadata would be written in a random order."""
    again = nuat.records.checkpoints.save_weights
    info = read_info(plain.run.folder / "last.safetensors")
    for i in range(12):
        again(tmp_path / f"{i}.safetensors", plain.model.state_dict(), info)
    expected = (plain.run.folder / "last.safetensors").read_bytes()
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {expected}


def test_loading_leaves_the_global_generator_alone(plain: Finished, tmp_path: Path) -> None:
    torch.save(plain.model.state_dict(), tmp_path / "a.pt")
    model = models.build(plain.config.model, channels=3, classes=CLASSES, image_size=(8, 8))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    nuat.load(plain.run.folder)
    nuat.load(tmp_path / "a.pt", model=model)
    read_checkpoint(plain.run.folder / "checkpoint.pt")
    assert torch.equal(torch.get_rng_state(), before)


# what cannot be loaded


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run or weights file"):
        nuat.load(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no best\.safetensors"):
        nuat.load(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_info(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pt")


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.5, 0.999])
def test_truncated_files(keep: float, plain: Finished, tmp_path: Path) -> None:
    for name, read in (("best.safetensors", nuat.load), ("checkpoint.pt", read_checkpoint)):
        whole = (plain.run.folder / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(InputError, match="cut off") as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_safetensors_that_we_did_not_write(plain: Finished, x: Tensor, tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file(plain.model.state_dict(), path, {"format": "pt"})
    with pytest.raises(InputError, match="not written by nuat"):
        nuat.load(path)
    model = models.build(plain.config.model, channels=3, classes=CLASSES, image_size=(8, 8))
    assert torch.equal(logits(nuat.load(path, model=model), x), logits(plain.model, x))
    for metadata in ("{}", "[]", "no JSON", '{"format": 1}', '{"format": 2}', '{"format": 1, "model": 3}'):
        safetensors.torch.save_file(plain.model.state_dict(), path, {"nuat": metadata})
        with pytest.raises(InputError, match=r"theirs\.safetensors"):
            nuat.load(path)


def test_metadata_and_weights_of_different_networks(plain: Finished, tmp_path: Path) -> None:
    import safetensors.torch

    with safe_open(plain.run.folder / "best.safetensors", framework="pt") as file:
        values = json.loads(file.metadata()["nuat"])
    del values["checksums"]
    other = models.build(SMALL_CNN, channels=3, classes=CLASSES, image_size=(8, 8))
    safetensors.torch.save_file(other.state_dict(), tmp_path / "mixed.safetensors", {"nuat": json.dumps(values)})
    with pytest.raises(InputError, match="do not fit the model"):
        nuat.load(tmp_path / "mixed.safetensors")


class Hostile:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def by_pickle(value: object) -> bytes:
    return pickle.dumps(value)


def by_torch(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize("write", [by_pickle, by_torch])
def test_a_hostile_pickle_does_not_run(write: Callable[[object], bytes], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    raw = write({"format": 1, "model": Hostile(victim)})
    torch.load(io.BytesIO(raw), weights_only=False) if write is by_torch else pickle.loads(raw)
    assert victim.exists()  # it is hostile
    victim.unlink()
    for name in ("checkpoint.pt", "weights.pth"):
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match="not loaded") as caught:
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert "\n" not in str(caught.value)
    assert "weights_only=False" not in str(caught.value)  # we do not advise to run it
    with pytest.raises(InputError, match="not loaded"):
        nuat.load(tmp_path / "weights.pth", model=nn.Linear(2, 2))
    assert not victim.exists()


def test_a_hostile_checkpoint_of_a_run(plain: Finished, tmp_path: Path) -> None:
    config = dataclasses.replace(plain.config, defense=Standard())
    train(config, tmp_path / "run")
    victim = tmp_path / "victim"
    (tmp_path / "run" / "checkpoint.pt").write_bytes(by_torch({"format": 1, "model": Hostile(victim)}))
    with pytest.raises(InputError, match="not loaded"):
        train(config, tmp_path / "run", resume=True)
    assert not victim.exists()


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(InputError, match="holds a list"):
        read_checkpoint(path)
    for values in ({}, {"format": 99}, {"model": {}}):
        torch.save(values, path)
        with pytest.raises(InputError, match="not a checkpoint that this version"):
            read_checkpoint(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="not loaded"):
        read_checkpoint(path)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    state = {"a": torch.arange(5.0), "b": {"c": torch.ones(2, dtype=torch.int64), "d": "text", "e": None}, "f": 1.5}
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    assert_equal(read_checkpoint(tmp_path / "checkpoint.pt"), {"format": 1, **state})
    assert_equal(read_torch(tmp_path / "checkpoint.pt"), {"format": 1, **state})


# a state takes what it can, whole or not at all


def start(images: Path, **changes: Any) -> TrainingState:
    config = small_config(images, **changes)
    model = models.build(config.model, channels=3, classes=CLASSES, image_size=(8, 8))
    return TrainingState.start(config, model.train(), torch.device("cpu"))


def written(state: TrainingState) -> dict[str, Any]:
    """Return a state as a checkpoint would hold it."""
    return torch.load(io.BytesIO(by_torch(state.to_dict())), weights_only=True)  # type: ignore[no-any-return]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"model": BATCH_NORM}, r"of another architecture; 'net\.conv1\.weight' is "),
    "width": ({"model": ModelConfig(name="small-cnn", width=5)}, r"architecture; 'net\.conv1\.weight' is .*5.*4"),
    "defense": ({"defense": NuATHybrid(lam=LAM)}, "of another defense or averaging"),
    "attack's average": ({"defense": NuAT2(lam=LAM, attack_tau=0.5)}, "of another defense or averaging"),
    "average": ({"averaging": averaged()}, "of another defense or averaging"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_state_of_another_run_is_refused_and_changes_nothing(what: str, images: Path) -> None:
    changes, message = REFUSED[what]
    other = written(start(images, **changes))
    state = start(images)
    before, rng = written(state), torch.get_rng_state()
    with pytest.raises(InputError, match=rf"^here: .*{message}"):
        state.load(other, "here")
    assert_equal(written(state), before)
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_state_of_another_kind_of_device_is_refused(images: Path) -> None:
    other = written(start(images)) | {"cuda_rng": [torch.get_rng_state()]}
    with pytest.raises(InputError, match="here: written on another kind of device"):
        start(images).load(other, "here")


def test_parts_of_a_state_that_are_missing_or_damaged(images: Path) -> None:
    state = start(images)
    before = written(state)
    without = {name: value for name, value in before.items() if name not in ("optimizer", "step")}
    with pytest.raises(InputError, match=r"^here: not a checkpoint of a run; it lacks optimizer, step\.$"):
        state.load(without, "here")
    for damage in ({"model": 3}, {"defense": None}):
        with pytest.raises(InputError, match=r"^here: .*(damaged|another)"):
            state.load({**before, **damage}, "here")
    assert_equal(written(state), before)


def test_a_state_comes_back_whole(images: Path) -> None:
    torch.manual_seed(1)
    changes: dict[str, Any] = {"defense": NuAT2(lam=LAM, attack_tau=0.5), "averaging": averaged(), "model": BATCH_NORM}
    state = start(images, **changes)
    state.add({"loss": torch.tensor(2.0), "lam": 3.0}, 4)
    state.epoch, state.batch, state.step, state.best_accuracy, state.best_epoch = 3, 2, 14, 0.5, 1
    state.collapsed_epochs, state.seconds, state.forwards, state.backwards, state.metrics_bytes = 2, 1.5, 7, 6, 99
    torch.rand(3, generator=state.generator)
    kept = written(state)
    torch.manual_seed(2)
    other = start(images, **changes)
    other.load(kept, "here")
    assert_equal(written(other), kept)
    assert other.means() == {"loss": 2.0, "lam": 3.0}
    assert torch.equal(torch.rand(3, generator=other.generator), torch.rand(3, generator=state.generator))
