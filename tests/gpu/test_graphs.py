"""Updates as CUDA graphs on a GPU: the runs are those of eager updates, and a failure leaves the run whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import DEFENSES
from training.recorded_runs import BATCHES, SUITED, Asking, moving
from training.small_runs import BATCH_NORM, Watcher, metrics, write_images

import nuat
from nuat.config import TrainConfig
from nuat.training.run import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def run(config: TrainConfig, out: Path) -> tuple[Run, list[str]]:
    """Train, and return the run with what it said."""
    watcher = Watcher()
    return nuat.run(config, out=out, reporter=watcher), [m for m in watcher.messages if "CUDA graphs" in m]


def assert_alike(ours: Path, theirs: Path, rel: float) -> None:
    """Two runs have the same losses up to the GPU's rounding."""
    for mine, other in zip(metrics(ours, "epoch"), metrics(theirs, "epoch"), strict=True):
        assert mine["train"] == pytest.approx(other["train"], rel=rel, abs=rel)
        assert (mine["forwards"], mine["backwards"]) == (other["forwards"], other["backwards"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SUITED)
def test_repeated_updates_are_those_of_an_eager_run(name: str, precision: str, images: Path, tmp_path: Path) -> None:
    config = moving(images, DEFENSES[name].defense, device="cuda", model=BATCH_NORM, precision=precision)
    graphed, said = run(replace(config, graph="on"), tmp_path / "graph")
    run(replace(config, graph="off"), tmp_path / "eager")
    assert said == []
    assert graphed.summary["repeated_updates"] >= BATCHES
    assert_alike(tmp_path / "graph", tmp_path / "eager", 1e-2 if precision == "fp32" else 5e-2)


def test_a_compiled_network_can_be_recorded(images: Path, tmp_path: Path) -> None:
    config = moving(images, DEFENSES["nuat"].defense, device="cuda", compile=True, graph="on")
    graphed, said = run(config, tmp_path / "graph")
    assert said == []
    assert graphed.summary["repeated_updates"] >= BATCHES


def test_what_cannot_be_recorded_goes_on_eagerly(images: Path, tmp_path: Path) -> None:
    config = moving(images, Asking(), device="cuda")
    graphed, said = run(config, tmp_path / "graph")
    run(replace(config, graph="off"), tmp_path / "eager")
    assert len(said) == 1
    assert graphed.summary["repeated_updates"] == 0
    assert_alike(tmp_path / "graph", tmp_path / "eager", 1e-2)  # the generators still draw, and draw the same


def test_a_defense_whose_host_decides_says_so(images: Path, tmp_path: Path) -> None:
    _, said = run(moving(images, DEFENSES["nuat-h-calm"].defense, device="cuda"), tmp_path / "run")
    assert "NuATHybrid declares no kinds of steps" in said[0]
