"""Shipped weights: a copy that needs nothing of the run, or none."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from export.export_runs import NETWORKS, failing, left, make_run
from torch import Tensor, nn

import nuat
from nuat.errors import InputError
from nuat.export import find_model, safetensors_file, to_safetensors
from nuat.records.checkpoints import read_info, save_weights


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_the_copy_is_the_model_without_the_run(network: str, tmp_path: Path) -> None:
    model, channels = NETWORKS[network]
    run = make_run(tmp_path / "run", model, channels=channels)
    x = torch.rand(5, channels, 8, 8)
    with torch.no_grad():
        before, info = nuat.load(run)(x), read_info(run / "best.safetensors")
    said = to_safetensors(find_model(run), tmp_path / "out" / "model.safetensors")
    shutil.rmtree(run)
    copy = tmp_path / "out" / "model.safetensors"
    with torch.no_grad():
        assert torch.equal(nuat.load(copy)(x), before)
    assert read_info(copy) == info
    assert info.averaged
    assert "16 test images" in said
    assert left(tmp_path / "out") == {"model.safetensors"}


def test_weights_outside_a_run_are_checked_on_random_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    shutil.move(run / "best.safetensors", tmp_path / "alone.safetensors")
    said = to_safetensors(find_model(tmp_path / "alone.safetensors"), tmp_path / "copy.safetensors")
    assert "16 random images" in said
    assert (tmp_path / "copy.safetensors").read_bytes() == (tmp_path / "alone.safetensors").read_bytes()


def test_images_of_another_shape_are_not_used(tmp_path: Path) -> None:
    """The settings name a file that was replaced meanwhile."""
    run = make_run(tmp_path / "run")
    other = make_run(tmp_path / "other", size=12)
    shutil.copy(tmp_path / "other-images.npz", tmp_path / "run-images.npz")
    assert find_model(other).test is not None
    assert find_model(run).test is None
    assert find_model(run).probe(3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("what", ["weights", "metadata"])
def test_a_copy_that_says_something_else_is_not_kept(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original is written to between reading and copying."""
    source = find_model(make_run(tmp_path / "run"))
    doubled = {name: 2 * tensor for name, tensor in nuat.load(source.weights).state_dict().items()}
    later = dataclasses.replace(source.info, epoch=source.info.epoch + 1)
    real = safetensors_file.settled_logits

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        found = real(model, x)
        if what == "weights":
            save_weights(source.weights, doubled, source.info)
        else:
            save_weights(source.weights, nuat.load(source.weights).state_dict(), later)
        return found

    monkeypatch.setattr(safetensors_file, "settled_logits", logits)
    before = left(tmp_path)
    with pytest.raises(InputError, match="Nothing was kept"):
        to_safetensors(source, tmp_path / "new" / "copy.safetensors")
    assert left(tmp_path) == before


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_model(make_run(tmp_path / "run"))
    before = left(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        to_safetensors(source, tmp_path / "new" / "deep" / "copy.safetensors")
    assert left(tmp_path) == before


def test_a_name_that_nuat_would_not_load_is_refused(tmp_path: Path) -> None:
    source = find_model(make_run(tmp_path / "run"))
    with pytest.raises(InputError, match=r"end the name in \.safetensors"):
        to_safetensors(source, tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
