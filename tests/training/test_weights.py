"""Runs that begin with trained weights, and go on without them."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    SMALL_CNN,
    PowerCut,
    Watcher,
    assert_same_run,
    averaged,
    cut,
    interrupt,
    metrics,
    small_config,
    train,
    write_images,
)

import nuat
from nuat.config import ModelConfig, TrainConfig
from nuat.core.schedules import Constant
from nuat.defenses import NuAT2, Standard
from nuat.errors import InputError
from nuat.models import Normalise
from nuat.records.checkpoints import read_checkpoint
from nuat.training.signals import Interrupted

VIT = ModelConfig(name="timm:vit_tiny_patch16_224", options=("patch_size=4", "embed_dim=16", "depth=2", "num_heads=2"))
MODELS = {"small-cnn": SMALL_CNN, "batch norm": BATCH_NORM, "vit": VIT}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path)


def begun_with(config: TrainConfig, weights: Path) -> TrainConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, weights=str(weights)))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_run_begins_with_the_weights_of_another(model: str, images: Path, tmp_path: Path) -> None:
    if model == "vit":
        pytest.importorskip("timm", reason="the timm extra is not installed")
    plain = small_config(images, model=MODELS[model], defense=Standard(), epochs=1)
    train(plain, tmp_path / "plain")
    config = begun_with(small_config(images, model=MODELS[model], averaging=averaged()), tmp_path / "plain")
    watcher = Watcher()
    run = nuat.run(config, out=tmp_path / "tuned", reporter=watcher)
    best = tmp_path / "plain" / "best.safetensors"
    assert watcher.messages[0] == f"begins with the weights {best}, with no normalisation"
    (line,) = metrics(run.folder, "weights")
    assert line["source"] == str(tmp_path / "plain")
    assert line["new"] == []
    assert [entry["kind"] for entry in metrics(run.folder)][:2] == ["start", "weights"]
    shutil.rmtree(tmp_path / "plain")
    tuned = run.model()  # its weights carry everything
    assert isinstance(tuned.normalise, Normalise)
    assert bool(torch.isfinite(tuned(torch.rand(2, 3, 8, 8))).all())


@pytest.mark.slow
def test_the_first_step_starts_from_them_and_so_do_the_averages(images: Path, tmp_path: Path) -> None:
    """With a learning rate of 0 the weights, the run's average and the attack's average stay the ones begun with."""
    still = dataclasses.replace(small_config(images).optimizer, lr=Constant(peak=0.0), weight_decay=0.0)
    first = train(small_config(images, defense=Standard(), epochs=1), tmp_path / "plain").model()
    config = small_config(images, optimizer=still, averaging=averaged(), defense=NuAT2(attack_tau=0.9), epochs=1)
    run = train(begun_with(config, tmp_path / "plain"), tmp_path / "tuned")
    state = read_checkpoint(run.folder / "checkpoint.pt")
    for name, tensor in first.state_dict().items():
        for where in (state["model"], state["average"], state["defense"]["attack_average"]):
            assert torch.equal(where[name], tensor), name


@pytest.mark.slow
def test_a_run_goes_on_without_the_file(images: Path, tmp_path: Path) -> None:
    train(small_config(images, defense=Standard(), epochs=1), tmp_path / "plain")
    config = begun_with(small_config(images, averaging=averaged()), tmp_path / "plain")
    whole = train(config, tmp_path / "whole").folder
    with pytest.raises(Interrupted):
        train(config, tmp_path / "cut", {BATCHES + 1: interrupt})
    with pytest.raises(PowerCut):
        train(config, tmp_path / "power", {BATCHES + 2: cut})
    shutil.rmtree(tmp_path / "plain")
    for name in ("cut", "power"):
        assert_same_run(train(config, tmp_path / name, resume=True).folder, whole)


def test_weights_that_cannot_be_had_leave_no_folder(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.weights: .*nowhere: no such run"):
        train(begun_with(small_config(images), tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_other_weights_are_another_run(images: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        train(small_config(images, defense=Standard(), epochs=1), tmp_path / name)
    config = small_config(images)
    train(begun_with(config, tmp_path / "one"), tmp_path / "run")
    with pytest.raises(InputError, match=r"begun with model\.weights="):
        train(begun_with(config, tmp_path / "other"), tmp_path / "run", resume=True)
