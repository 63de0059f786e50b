"""Smoothed and mixed labels through the loop: what a batch holds, on several devices too, and resumed bit for bit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    CLASSES,
    LAM,
    assert_same_run,
    averaged,
    interrupt,
    metrics,
    small_config,
    train,
    write_images,
)

from nuat.config import TrainConfig
from nuat.core.losses import soft_labels
from nuat.data import Batch, cutmix
from nuat.defenses import LIET, Defense, FreeAT, NuAT
from nuat.distributed.world import ALONE, World
from nuat.training.signals import Interrupted
from nuat.training.soft_labels import softened


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def settings(images: Path, defense: Defense, *, cutmix: float | None = None, **changes: Any) -> TrainConfig:
    config = small_config(images, defense=defense, **changes)
    return replace(config, data=replace(config.data, cutmix=cutmix))


def batch_of(n: int) -> Batch:
    x = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(n)).contiguous(memory_format=torch.channels_last)
    return Batch(x=x, y=torch.arange(n) % CLASSES, index=torch.arange(n))


def softly(batches: Sequence[Batch], config: TrainConfig, world: World = ALONE) -> list[Batch]:
    return list(softened(iter(batches), config, CLASSES, torch.Generator().manual_seed(0), world))


def test_without_the_settings_a_batch_is_left_alone(images: Path) -> None:
    batch = batch_of(5)
    assert softly([batch], settings(images, NuAT()))[0] is batch


def test_labels_are_smoothed_and_mixed(images: Path) -> None:
    batch = batch_of(5)
    (smoothed,) = softly([batch], settings(images, NuAT(smoothing=0.4)))
    assert smoothed.x is batch.x
    assert torch.equal(smoothed.y, soft_labels(batch.y, CLASSES, 0.4))
    (mixed,) = softly([batch], settings(images, NuAT(smoothing=0.4), cutmix=1.0))
    x, y = cutmix(batch.x, soft_labels(batch.y, CLASSES, 0.4), 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(mixed.x, x)
    assert torch.equal(mixed.y, y)
    assert mixed.x.is_contiguous(memory_format=torch.channels_last)


class Two(World):
    """A process of two, which is given the whole batch where it gathers it."""

    whole: Tensor

    def gather(self, rows: Tensor, total: int) -> Tensor:
        assert torch.equal(rows, self.rows(self.whole))
        return self.whole


@pytest.mark.parametrize("n", [6, 5])
def test_two_devices_have_their_rows_of_one_devices_images(n: int, images: Path) -> None:
    config, batch = settings(images, NuAT(smoothing=0.4), cutmix=1.0), batch_of(n)
    (whole,) = softly([batch], config)
    for rank in range(2):
        world = Two(rank=rank, size=2)
        object.__setattr__(world, "whole", batch.x)
        (part,) = softly([replace(batch, x=world.rows(batch.x))], config, world)
        assert torch.equal(part.x, whole.x[rank::2])
        assert torch.equal(part.y, whole.y)


SOFT: dict[str, Defense] = {
    "nuat": NuAT(lam=LAM, smoothing=0.3),
    "free-at": FreeAT(replays=2, smoothing=0.3),  # the replays of a batch have one box
    "liet": LIET(smoothing=0.3, every=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOFT)
def test_a_run_with_soft_labels_resumes_bit_for_bit(name: str, images: Path, tmp_path: Path) -> None:
    config = settings(images, SOFT[name], cutmix=1.0, model=BATCH_NORM, averaging=averaged())
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {(BATCHES + 2) * config.defense.updates_per_batch: interrupt})
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_each_option_changes_a_run(images: Path, tmp_path: Path) -> None:
    losses = set()
    for n, config in enumerate(
        [settings(images, NuAT(smoothing=s), cutmix=alpha, epochs=1) for s in (0.0, 0.3) for alpha in (None, 1.0)]
    ):
        train(config, tmp_path / str(n))
        losses.add(metrics(tmp_path / str(n), "epoch")[0]["train"]["clean_loss"])
    assert len(losses) == 4
