"""The numbers of a run: the same for the same seed, averaged and scheduled as the settings say."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    LAM,
    TRAIN,
    VALIDATION,
    Watcher,
    assert_same_run,
    averaged,
    metrics,
    remembered,
    small_config,
    timeless,
    train,
    write_images,
)

import nuat
from nuat.config import OptimizerConfig
from nuat.core.losses import cross_entropy
from nuat.core.schedules import CyclicStep
from nuat.defenses import BatchLoss, Defense, NuAT, NuAT2, Standard, State, Step
from nuat.errors import InputError

IMAGES = TRAIN - VALIDATION  # trained on


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(images: Path, tmp_path: Path) -> None:
    config = small_config(images, model=BATCH_NORM, averaging=averaged())
    train(config, tmp_path / "a")
    torch.manual_seed(99)  # what was drawn before does not matter
    torch.rand(7)
    train(config, tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_another_seed_gives_another_run_on_the_same_split(images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    train(config, tmp_path / "a")
    train(dataclasses.replace(config, seed=1), tmp_path / "b")
    a, b = remembered(tmp_path / "a"), remembered(tmp_path / "b")
    assert not torch.equal(a["model"]["net.conv1.weight"], b["model"]["net.conv1.weight"])
    assert not torch.equal(a["generator"], b["generator"])
    assert timeless(tmp_path / "a")[1]["train"] != timeless(tmp_path / "b")[1]["train"]
    assert (tmp_path / "a" / "split.json").read_bytes() == (tmp_path / "b" / "split.json").read_bytes()


@pytest.mark.slow
def test_another_split_seed_gives_another_split(images: Path, tmp_path: Path) -> None:
    config = small_config(images)
    train(config, tmp_path / "a")
    train(dataclasses.replace(config, data=dataclasses.replace(config.data, split_seed=1)), tmp_path / "b")
    assert (tmp_path / "a" / "split.json").read_bytes() != (tmp_path / "b" / "split.json").read_bytes()


SEEN: list[dict[str, Tensor]] = []
INDICES: list[list[int]] = []
MODES: list[bool] = []


@dataclass(frozen=True, kw_only=True)
class Seen(Defense):
    """Standard training that keeps the weights before the first step and after each."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        if not SEEN:
            SEEN.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert step.index is not None
        INDICES.append(step.index.tolist())
        MODES.append(all(module.training for module in model.modules()))
        loss = cross_entropy(model(x), y)
        return BatchLoss(loss, {"clean_loss": loss.detach()})

    def after_step(self, model: nn.Module, step: Step, state: State) -> None:
        SEEN.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


@pytest.fixture
def seen() -> list[dict[str, Tensor]]:
    SEEN.clear()
    INDICES.clear()
    MODES.clear()
    return SEEN


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("tau", [0.0, 0.35, 0.9])
def test_the_average_is_as_configured(
    tau: float, warmup: bool, images: Path, tmp_path: Path, seen: list[dict[str, Tensor]]
) -> None:
    config = small_config(images, defense=Seen(), model=BATCH_NORM, averaging=averaged(tau, warmup=warmup))
    train(config, tmp_path / "run")
    assert len(seen) == 1 + 2 * BATCHES
    expected = {name: tensor.double() for name, tensor in seen[0].items()}
    for step, weights in enumerate(seen[1:]):
        decay = min(tau, (1 + step) / (10 + step)) if warmup else tau
        expected = {name: decay * expected[name] + (1 - decay) * weights[name].double() for name in expected}
    average = remembered(tmp_path / "run")["average"]
    assert any(name.endswith("running_var") for name in average)
    for name, tensor in average.items():
        if name.endswith("num_batches_tracked"):  # an integer is copied
            assert torch.equal(tensor, seen[-1][name])
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_every_image_once_an_epoch_in_another_order(
    images: Path, tmp_path: Path, seen: list[dict[str, Tensor]]
) -> None:
    train(small_config(images, defense=Seen()), tmp_path / "run")
    first = [index for batch in INDICES[:BATCHES] for index in batch]
    second = [index for batch in INDICES[BATCHES:] for index in batch]
    assert sorted(first) == sorted(second) == list(range(IMAGES))
    assert first != second
    assert first != sorted(first)
    assert [len(batch) for batch in INDICES[:BATCHES]] == [32, 32, 32, 4]


@pytest.mark.slow
def test_every_step_is_in_training_mode(images: Path, tmp_path: Path, seen: list[dict[str, Tensor]]) -> None:
    """Validation between the epochs leaves the mode as it was."""
    train(small_config(images, defense=Seen(), model=BATCH_NORM), tmp_path / "run")
    assert MODES == [True] * 2 * BATCHES


@pytest.mark.slow
def test_the_learning_rate_follows_its_schedule(images: Path, tmp_path: Path) -> None:
    schedule = CyclicStep(peak=0.2, rise=0.25, fall=0.5, floor=0.05, drops=(0.75,), factor=0.1)
    config = small_config(images, optimizer=OptimizerConfig(lr=schedule), epochs=4)
    train(config, tmp_path / "run")
    found = [epoch["lr"] for epoch in metrics(tmp_path / "run", "epoch")]
    expected = [schedule((BATCHES * epoch - 1) / (BATCHES * 4)) for epoch in range(1, 5)]  # of each epoch's last step
    assert found == expected
    assert len(set(found)) == 4


def test_the_update_is_sgd(images: Path, tmp_path: Path, seen: list[dict[str, Tensor]]) -> None:
    """A rate of 0 in the first step (the triangle begins at 0) leaves the weights; the second moves them."""
    train(small_config(images, defense=Seen()), tmp_path / "run")
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert not torch.equal(seen[1]["net.conv1.weight"], seen[2]["net.conv1.weight"])
    group = remembered(tmp_path / "run")["optimizer"]["param_groups"][0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-4, False)


PASSES: dict[str, tuple[Defense, tuple[int, int]]] = {
    "standard": (Standard(), (2, 2)),
    "nuat": (NuAT(lam=LAM), (6, 6)),  # clean, attack, adversarial; in both epochs
    "nuat-authors": (NuAT(lam=LAM, passes="authors"), (8, 6)),
    "nuat2": (NuAT2(lam=LAM), (9, 8)),  # in epoch 1 lambda is 0, and the attack needs no reference logits
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_of_an_image_in_two_epochs(name: str, images: Path, tmp_path: Path) -> None:
    defense, (forwards, backwards) = PASSES[name]
    summary = train(small_config(images, defense=defense), tmp_path / "run").summary
    assert summary["forwards"] == forwards * IMAGES
    assert summary["backwards"] == backwards * IMAGES
    (end,) = metrics(tmp_path / "run", "end")
    last = metrics(tmp_path / "run", "epoch")[-1]
    assert (end["forwards"], end["backwards"]) == (last["forwards"], last["backwards"])
    assert (last["forwards"], last["backwards"]) == (summary["forwards"], summary["backwards"])


@pytest.mark.parametrize(("batch_size", "refused"), [(33, True), (99, True), (25, False), (100, False), (1000, False)])
def test_a_batch_of_one_under_batch_norm(batch_size: int, refused: bool, images: Path, tmp_path: Path) -> None:
    config = small_config(images, model=BATCH_NORM, defense=Standard(), batch_size=batch_size, epochs=1)
    if not refused:
        train(config, tmp_path / "run")
        return
    with pytest.raises(InputError, match=rf"batch_size={batch_size}.*batch norm"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_without_batch_norm(images: Path, tmp_path: Path) -> None:
    assert IMAGES % 33 == 1
    watcher = Watcher()
    nuat.run(small_config(images, batch_size=33), out=tmp_path / "run", reporter=watcher)
    assert watcher.steps == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.parametrize("defense", [NuAT(lam=LAM), NuAT(lam=LAM, passes="authors"), NuAT2(lam=LAM, attack_tau=0.5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_bf16_trains_every_weight_in_fp32(
    channels_last: bool, defense: Defense, images: Path, tmp_path: Path, seen: list[dict[str, Tensor]]
) -> None:
    train(small_config(images, defense=Seen(), epochs=1), tmp_path / "first")
    results: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        config = small_config(images, defense=defense, precision=precision, channels_last=channels_last)
        train(config, tmp_path / precision)
        results[precision] = remembered(tmp_path / precision)["model"]
    for name, tensor in results["bf16"].items():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, results["fp32"][name])
        moved = float((tensor - seen[0][name]).norm())
        apart = float((tensor - results["fp32"][name]).norm())
        assert moved > 4 * apart > 0, name
