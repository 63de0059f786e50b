"""Weights by their names: those in the package, and those that are downloaded."""

import hashlib
from pathlib import Path

import pytest
import torch

import nuat
from nuat.errors import InputError
from nuat.records.named_weights import NAMED, NamedWeights, fetch, is_named

RESULTS = Path(__file__).parents[2] / "results"


def test_the_quickstarts_model_is_the_one_in_the_results() -> None:
    for name in ("best.safetensors", "config.json", "evaluation.json"):
        assert (fetch("quickstart") / name).read_bytes() == (RESULTS / "quickstart" / name).read_bytes()


def test_every_named_model_loads() -> None:
    for name in NAMED:
        model = nuat.load(name)
        shape = (1, model.info.channels, *model.info.image_size)
        assert model(torch.zeros(shape)).shape == (1, len(model.classes))


def test_an_existing_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_named("quickstart")
    Path("quickstart").mkdir()
    assert not is_named("quickstart")
    with pytest.raises(InputError, match=r"quickstart: no best\.safetensors"):
        nuat.load("quickstart")


def test_released_weights_are_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "released.safetensors"
    source.write_bytes((fetch("quickstart") / "best.safetensors").read_bytes())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    row = NamedWeights(summary="", address=source.as_uri(), sha256=digest)
    file = fetch("released", {"released": row})
    assert file.read_bytes() == source.read_bytes()
    source.unlink()
    assert fetch("released", {"released": row}) == file
    other = NamedWeights(summary="", address=file.as_uri(), sha256="0" * 64)
    with pytest.raises(InputError, match=r"other: could not be downloaded from .* hash"):
        fetch("other", {"other": other})
    with pytest.raises(InputError, match="released: could not be downloaded"):
        fetch("released", {"released": NamedWeights(summary="", address=source.as_uri(), sha256="1" * 64)})
    assert [path.name for path in (tmp_path / "cache" / "weights").iterdir()] == [file.name]
