"""Costs of steps, counted and timed on networks of a few thousand numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nuat.config import DataConfig, TrainConfig
from nuat.defenses import AWP, PGDAT, Defense, FreeAT, NuAT, NuATHybrid
from nuat.errors import InputError
from nuat.plan.counters import CountingWorld
from nuat.plan.image_facts import ImageFacts, made_up
from nuat.plan.step_costs import Phase, StepCosts, at_batch, count, decode_seconds, measure, seconds, timed_batch
from nuat.recipes import find
from nuat.training.rehearsal import go_to, rehearsal
from nuat.training.validation import validate

TINY = ImageFacts(train=200, validation=10, test=10, channels=1, size=(16, 16), classes=3, source="made up")


def config(recipe: str, *sizes: int) -> TrainConfig:
    """Return a recipe for a small network, at sizes that share the run evenly; where they grow, one that takes any."""
    made = find(recipe)()
    starts = tuple(i / len(sizes) for i in range(len(sizes)))
    data = DataConfig(
        path=Path("nowhere"), loading="stream", image_size=16, progressive_sizes=sizes, progressive_from=starts
    )
    model = replace(made.model, name=made.model.name if sizes in ((), (16,)) else "resnet18", width=4)
    return replace(made, data=data, model=model, epochs=4, precision="fp32", device="cpu", eps_warmup=0.0)


def measured(recipe: str, *sizes: int, batch: int = 32, joint: tuple[int, ...] = ()) -> StepCosts:
    return measure(config(recipe, *sizes), recipe, TINY, batches=[batch], joint=joint, pairs=1)


def rehearsed(defense: Defense, folder: Path, batch: int = 6, **changes: Any) -> Any:
    """Return the settings of a rehearsal on two batches of made-up images."""
    made = find("nuat-mnist-small-cnn")()
    images = replace(TINY, size=(8, 8))
    return replace(
        made, defense=defense, data=made_up(folder, images, (8, 8), batch, made.data), batch_size=batch,
        model=replace(made.model, width=4), device="cpu", precision="fp32", **changes,
    )  # fmt: skip


def counted(settings: TrainConfig, epoch: int = 1) -> Phase:
    with rehearsal(settings, "tiny", torch.device("cpu"), CountingWorld()) as loop:
        return count(loop, epoch)


@pytest.mark.parametrize(
    ("defense", "forwards", "training"),
    [
        (NuAT(), 3, 2),  # clean, attack, attacked
        (PGDAT(steps=3), 4, 1),
        (FreeAT(replays=5), 5, 5),
    ],
)
def test_a_batch_is_counted(defense: Defense, forwards: int, training: int, tmp_path: Path) -> None:
    found = counted(rehearsed(defense, tmp_path))
    assert (found.forwards, found.training_forwards) == (forwards, training)
    assert found.nuclear == isinstance(defense, NuAT)
    assert found.operations > 0


def test_a_rehearsal_leaves_no_folder(tmp_path: Path) -> None:
    with rehearsal(rehearsed(NuAT(), tmp_path), "tiny", torch.device("cpu")) as loop:
        folder = loop.folder.path
        assert folder.exists()
    assert not folder.exists()


@pytest.mark.parametrize(("defense", "calls", "sums"), [(NuAT(), 0, 0), (NuATHybrid(), 2, 0), (AWP(steps=2), 1, 1)])
def test_exchanges_of_a_defense_are_counted(defense: Defense, calls: int, sums: int, tmp_path: Path) -> None:
    settings = rehearsed(defense, tmp_path)
    with rehearsal(settings, "tiny", torch.device("cpu")) as loop:
        weights = sum(4 * p.numel() for p in loop.state.model.parameters() if p.dim() > 1)
    found = counted(settings)
    assert (found.defense_calls, found.defense_bytes) == (calls, sums * weights)


@pytest.mark.slow
def test_operations_and_memory_grow_with_the_batch(tmp_path: Path) -> None:
    small, large = (counted(rehearsed(NuAT(), tmp_path, batch)) for batch in (32, 64))
    assert large.operations == pytest.approx(small.operations, rel=0.02)  # an image
    assert large.added[64] == pytest.approx(2 * small.added[32], rel=0.1)  # the gradients do not double


@pytest.mark.slow
def test_an_average_counts_once() -> None:
    plain, averaged = measured("nuat-mnist-small-cnn", batch=4), measured("nuat-wa-mnist-small-cnn", batch=4)
    assert plain.average_bytes == 0
    assert averaged.average_bytes == averaged.weights  # its network holds the same tensors


def test_steps_are_timed_in_the_epoch_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    loss = NuAT.loss

    def watched(self: NuAT, model: Any, x: Any, y: Any, step: Any, state: Any) -> Any:
        seen.append((step.epoch, step.batch))
        return loss(self, model, x, y, step, state)

    monkeypatch.setattr(NuAT, "loss", watched)
    with rehearsal(rehearsed(NuAT(), tmp_path), "tiny", torch.device("cpu")) as loop:
        assert seconds(loop, 3, pairs=2) > 0.0
        assert seen == [(3, 0), (3, 1)] * 3  # a pair that is not timed comes first
        go_to(loop, 2)
        assert (loop.state.epoch, loop.state.batch, loop.state.step) == (2, 0, 4)


@pytest.mark.slow
def test_sizes_that_grow_are_measured_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.plan.step_costs._CPU_OPERATIONS", 5e7)
    both = measured("nuat-mnist-small-cnn", 8, 32)
    assert [phase.epochs for phase in both.phases] == [2, 2]
    (small_batch,), (large_batch,) = (tuple(phase.seconds) for phase in both.phases)
    assert large_batch < small_batch <= 32  # as many images as the same operations allow
    assert both.phases[1].operations == pytest.approx(16 * both.phases[0].operations, rel=0.1)
    assert at_batch(both.phases[1].added, 1) > 4 * at_batch(both.phases[0].added, 1)
    assert both.validation_seconds > 0.0
    assert both.decode_seconds > 0.0


@pytest.mark.slow
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

    monkeypatch.setattr("nuat.plan.step_costs.validate", watched)
    monkeypatch.setattr(NuAT, "loss", seen)
    monkeypatch.setattr("nuat.plan.step_costs._CPU_OPERATIONS", 5e6)
    images = replace(TINY, size=(72, 72))  # past 64 pixels a residual network begins with ImageNet's stem
    known = config("nuat-mnist-small-cnn", 32, 80)
    known = replace(known, data=replace(known.data, loading=loading, image_size=72))
    named = replace(known, model=replace(known.model, stem="imagenet"))
    found, told = (measure(one, "growing", images, batches=[8], pairs=1) for one in (known, named))
    assert {*validated} == {(72, 72)}
    assert trained == {(32, 32), (80, 80)}
    assert [phase.operations for phase in found.phases] == [phase.operations for phase in told.phases]
    assert found.parameters == told.parameters


def test_sizes_that_the_network_does_not_take_are_refused_as_in_training() -> None:
    fixed = config("nuat-mnist-small-cnn", 8, 16)
    fixed = replace(fixed, model=replace(fixed.model, name="small-cnn"))
    with pytest.raises(InputError, match="the model does not take images of 8 pixels"):
        measure(fixed, "fixed", TINY, batches=[8], pairs=1)


@pytest.mark.slow
def test_a_perturbation_that_the_defense_carries_grows_with_the_batch() -> None:
    found, few = measured("free-at-mnist-small-cnn", 16), measured("free-at-mnist-small-cnn", 16, batch=2)
    # x and its copy are alive and the perturbation kept: at least 4 bytes a pixel of each image
    assert (found.phases[0].added[32] - few.phases[0].added[2]) / 30 > 4 * 256
    assert found.phases[0].forwards == config("free-at-mnist-small-cnn", 16).defense.updates_per_batch


@pytest.mark.slow
def test_nuclear_norms_are_timed_where_the_loss_has_them_and_devices_share_a_batch() -> None:
    assert set(measured("nuat-mnist-small-cnn", 16, batch=4, joint=(64,)).nuclear_seconds) == {4, 64}
    assert measured("nuat-mnist-small-cnn", 16, batch=4).nuclear_seconds == {}
    assert measured("pgd-at-mnist-small-cnn", 16, batch=4, joint=(64,)).nuclear_seconds == {}


def test_facts_of_the_network() -> None:
    found = measured("normal-mnist-small-cnn", 16, batch=4)
    momentum = 4 * found.parameters
    assert found.state_bytes == found.weights + momentum
    assert found.checkpoint == found.state_bytes  # no average, nothing that a defense keeps
    assert found.phases[0].added[4] > momentum  # a gradient for each weight


@pytest.mark.slow
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


def test_other_batches_are_in_proportion_to_the_nearest() -> None:
    assert at_batch({2: 120, 10: 200}, 10) == 200
    assert at_batch({2: 120, 10: 200}, 4) == 240
    assert at_batch({2: 120, 10: 200}, 30) == 600


def test_a_photograph_is_decoded() -> None:
    assert 1e-5 < decode_seconds(32, times=3) < 10.0
