"""What a plan measures, on networks of a few thousand numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nuat.config import DataConfig, TrainConfig
from nuat.defenses import NuAT
from nuat.errors import InputError
from nuat.plan.images import Images
from nuat.plan.measure import Measured, measure, timed_batch
from nuat.plan.memory import at
from nuat.recipes import find
from nuat.training.validation import validate

TINY = Images(train=200, validation=10, test=10, channels=1, size=(16, 16), classes=3, source="made up")


def config(recipe: str, *sizes: int) -> TrainConfig:
    """Return a recipe for a small network, at sizes that share the run evenly; where they grow, one that takes any."""
    made = find(recipe)()
    starts = tuple(i / len(sizes) for i in range(len(sizes)))
    data = DataConfig(
        path=Path("nowhere"), loading="stream", image_size=16, progressive_sizes=sizes, progressive_from=starts
    )
    model = replace(made.model, name=made.model.name if sizes in ((), (16,)) else "resnet18", width=4)
    return replace(made, data=data, model=model, epochs=4, precision="fp32", device="cpu", eps_warmup=0.0)


def measured(recipe: str, *sizes: int, batch: int = 32, joint: tuple[int, ...] = ()) -> Measured:
    return measure(config(recipe, *sizes), recipe, TINY, batches=[batch], joint=joint, pairs=1)


def test_sizes_that_grow_are_measured_apart_and_memory_is_that_of_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.plan.measure._CPU_OPERATIONS", 5e7)
    both, large = measured("nuat-mnist-small-cnn", 8, 32), measured("nuat-mnist-small-cnn", 32)
    assert [(group.size, group.epochs) for group in both.groups] == [((8, 8), 2), ((32, 32), 2)]
    (small_batch,), (large_batch,) = (tuple(group.seconds) for group in both.groups)
    assert large_batch < small_batch <= 32  # as many images as the same operations allow
    assert both.groups[1].operations == pytest.approx(16 * both.groups[0].operations, rel=0.1)
    assert at(both.varying, 32) == at(large.varying, 32)
    assert both.validation_seconds > 0.0
    assert both.decode_seconds is not None
    assert both.decode_seconds > 0.0


@pytest.mark.parametrize("loading", ["stream", "memory"])
def test_a_phase_changes_the_training_images_alone(loading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation keeps the size of evaluations, and a network that is made for a size that of the images."""
    validated: list[tuple[int, int]] = []
    trained: set[tuple[int, ...]] = set()

    def watched(model: Any, images: Any, **how: Any) -> dict[str, float]:
        validated.append(images.image_size)
        return validate(model, images, **how)

    loss = NuAT.loss

    def seen(self: NuAT, model: Any, x: Any, y: Any, step: Any, state: Any) -> Any:
        trained.add(tuple(x.shape[2:]))
        return loss(self, model, x, y, step, state)

    monkeypatch.setattr("nuat.plan.measure.validate", watched)
    monkeypatch.setattr(NuAT, "loss", seen)
    monkeypatch.setattr("nuat.plan.measure._CPU_OPERATIONS", 5e6)
    images = replace(TINY, size=(72, 72))  # past 64 pixels a residual network begins with ImageNet's stem
    known = config("nuat-mnist-small-cnn", 32, 80)
    known = replace(known, data=replace(known.data, loading=loading, image_size=72))
    named = replace(known, model=replace(known.model, stem="imagenet"))
    found, told = (measure(one, "growing", images, batches=[8], pairs=1) for one in (known, named))
    assert {*validated} == {(72, 72)}
    assert trained - {(2, 2)} == {(32, 32), (80, 80)}  # kinds of epochs are told apart on images of 2 pixels
    assert [group.operations for group in found.groups] == [group.operations for group in told.groups]
    assert found.parameters == told.parameters


def test_sizes_that_the_network_does_not_take_are_refused_as_in_training() -> None:
    fixed = config("nuat-mnist-small-cnn", 8, 16)
    fixed = replace(fixed, model=replace(fixed.model, name="small-cnn"))
    with pytest.raises(InputError, match="the model does not take images of 8 pixels"):
        measure(fixed, "fixed", TINY, batches=[8], pairs=1)


def test_bytes_on_the_line_are_those_of_a_batch_that_is_counted() -> None:
    few, many = measured("nuat-mnist-small-cnn", 16, batch=8), measured("nuat-mnist-small-cnn", 16, batch=32)
    assert at(few.varying, 32) == pytest.approx(many.varying[32], rel=0.02)


def test_a_perturbation_that_the_defense_carries_grows_with_the_batch() -> None:
    found = measured("free-at-mnist-small-cnn", 16)
    # x and its copy are saved and the perturbation kept: at least 4 bytes a pixel of each image
    assert (found.varying[32] - found.varying[2]) / 30 > 4 * 256
    assert found.groups[0].forwards == config("free-at-mnist-small-cnn", 16).defense.updates_per_batch


def test_nuclear_norms_are_timed_where_the_defense_takes_them_and_devices_share_a_batch() -> None:
    assert set(measured("nuat-mnist-small-cnn", 16, batch=4, joint=(64,)).nuclear_seconds) == {4, 64}
    assert measured("nuat-mnist-small-cnn", 16, batch=4).nuclear_seconds == {}
    assert measured("pgd-at-mnist-small-cnn", 16, batch=4, joint=(64,)).nuclear_seconds == {}


def test_facts_of_the_network() -> None:
    found = measured("normal-mnist-small-cnn", 16, batch=4)
    assert found.fixed["weights"] == 4 * found.parameters
    assert found.weights == found.fixed["weights"] + found.fixed["buffers"]
    assert found.checkpoint == found.weights + found.fixed["optimizer"]  # no average, nothing that a defense keeps


def test_the_normalisation_of_weights_stays_though_they_are_not_read() -> None:
    """Their bytes are part of what is written and averaged; its values cost nothing."""
    plain = config("normal-mnist-small-cnn", 16)
    found = [
        measure(replace(plain, model=replace(plain.model, **settings)), "begun", TINY, batches=[4], pairs=1)
        for settings in ({}, {"weights": "a-run"}, {"weights": "a-run", "mean": (0.5,), "std": (0.5,)})
    ]
    assert [one.weights - found[0].weights for one in found] == [0, 8, 8]  # a mean and a deviation of one channel


def test_a_single_image_a_device_is_timed_as_two() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [timed_batch(1, 1e6, device) for device in (cpu, gpu)] == [2, 2]
    assert [timed_batch(256, 1e11, device) for device in (cpu, gpu)] == [5, 256]
    assert timed_batch(256, 1e13, cpu) == 4
