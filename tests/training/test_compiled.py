"""Runs whose network is compiled: the same numbers, with what compiling took in the record."""

import dataclasses
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from training.small_runs import LAM, metrics, small_config, train, write_images

from nuat.defenses import AWP, LIET, Defense, NuAT, NuAT2
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.progress import Reporter
from nuat.training import compiling
from nuat.training.preparation import prepare

T = TypeVar("T")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "defense", [NuAT(lam=LAM), NuAT2(lam=LAM, attack_tau=0.9), AWP(steps=1), LIET(lam=LAM)], ids=repr
)
def test_a_compiled_run_has_the_losses_of_an_eager_one(
    defense: Defense, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # traced and differentiated as for any backend, but its operations are torch's own: no compiler is waited for
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = small_config(images, defense=defense)
    torch._dynamo.reset()
    train(config, tmp_path / "eager")
    train(dataclasses.replace(config, compile=True), tmp_path / "compiled")
    for ours, theirs in zip(*(metrics(tmp_path / n, "epoch") for n in ("compiled", "eager")), strict=True):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4)
        assert (ours["forwards"], ours["backwards"]) == (theirs["forwards"], theirs["backwards"])
    (end,) = metrics(tmp_path / "compiled", "end")
    assert end["compile_seconds"] > 0.0
    assert "compile_seconds" not in metrics(tmp_path / "eager", "end")[0]


class Two(World):
    """Two processes that agree."""

    def any(self, flag: bool, *, patient: bool = False) -> bool:
        return flag

    def objects(self, value: T, *, patient: bool = False) -> list[T]:
        return [value, value]


def test_on_several_devices_it_is_refused(images: Path) -> None:
    with pytest.raises(InputError, match="compile=true is for one device; this run has 2"):
        prepare(small_config(images, compile=True), torch.device("cpu"), Reporter(), Two(size=2))


def test_without_a_compiler_it_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        train(small_config(images, compile=True), tmp_path / "run")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="triton"):
        compiling.check(torch.device("cuda"))
