"""Each baseline through the training loop: resumed bit for bit, its passes counted; replays, Adam and the monitors."""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.small_runs import (
    BATCH_NORM,
    BATCHES,
    EPS,
    TRAIN,
    VALIDATION,
    assert_same_run,
    averaged,
    interrupt,
    metrics,
    remembered,
    small_config,
    train,
    write_images,
)

from nuat.config import DataConfig, MonitorConfig, OptimizerConfig, ThreatConfig
from nuat.core.schedules import Constant, Cyclic, Jumps
from nuat.core.threat import Norm
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    NFGSM,
    PGDAT,
    RFGSMAT,
    RMGM,
    TRADES,
    TRADESAWP,
    BatchLoss,
    Defense,
    FreeAT,
    Standard,
    State,
    Step,
)
from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint
from nuat.records.settings import from_json, to_json
from nuat.training.signals import Interrupted

IMAGES = TRAIN - VALIDATION  # trained on
STEPS = {"steps": 3, "step_size": 0.5}
REPLAYS = 3
ADAM = OptimizerConfig(name="adam", lr=Cyclic(peak=0.01, rise=0.3))

# the defense, and how often an image goes forward and backward in an epoch
CASES: dict[str, tuple[Defense, tuple[int, int]]] = {
    "fgsm-at": (FGSMAT(), (2, 2)),
    "rfgsm-at": (RFGSMAT(), (2, 2)),
    "fbf": (FBF(), (2, 2)),
    "r-mgm": (RMGM(weight=0.1), (4, 4)),
    "gat": (GAT(weight=Jumps(start=2.0, at=(0.5,))), (3, 3)),
    "pgd-at": (PGDAT(**STEPS), (4, 4)),
    "trades": (TRADES(**STEPS), (6, 5)),  # the attack's reference is taken without a gradient
    "awp": (AWP(**STEPS), (5, 5)),
    "awp-warmup": (AWP(**STEPS, warmup=0.5), (9, 9)),  # in both epochs: 4 in the first, 5 in the second
    "trades-awp": (TRADESAWP(**STEPS), (8, 7)),
    "free-at": (FreeAT(replays=REPLAYS), (REPLAYS, REPLAYS)),
    "n-fgsm": (NFGSM(), (2, 2)),
    "fgsm-pgi": (FGSMPGI(), (3, 3)),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, "adam"])
def test_a_run_and_its_resumption_are_the_same_bit_for_bit(name: str, images: Path, tmp_path: Path) -> None:
    defense, passes = CASES["fbf" if name == "adam" else name]
    changes: dict[str, Any] = {"optimizer": ADAM} if name == "adam" else {}
    config = small_config(images, defense=defense, model=BATCH_NORM, averaging=averaged(), **changes)
    assert from_json(config, to_json(config), "") == config
    run, replays = train(config, tmp_path / "whole"), defense.updates_per_batch

    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {(BATCHES + 2) * replays: interrupt})
    stopped = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert (stopped["epoch"], stopped["batch"], stopped["step"]) == (1, 2, (BATCHES + 2) * replays)
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")

    state = remembered(tmp_path / "whole")
    assert not torch.equal(state["average"]["net.fc.weight"], state["model"]["net.fc.weight"])
    for tensors in (state["model"], state["average"]):
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    epochs = 1 if name == "awp-warmup" else 2  # its epochs differ and are counted together
    assert (run.summary["forwards"], run.summary["backwards"]) == tuple(epochs * n * IMAGES for n in passes)
    for epoch in metrics(tmp_path / "whole", "epoch"):
        assert math.isfinite(epoch["train"]["loss"])
        assert ("clean_loss" in epoch["train"]) == (name in ("gat", "trades", "trades-awp"))


@pytest.mark.parametrize(("name", "key"), [("free-at", "delta"), ("fgsm-pgi", "prior")])
def test_the_carried_perturbation_is_in_the_checkpoint(name: str, key: str, images: Path, tmp_path: Path) -> None:
    config = small_config(images, defense=CASES[name][0])
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {config.defense.updates_per_batch: interrupt})
    first = remembered(tmp_path / "run")["defense"][key]
    train(config, tmp_path / "run", resume=True)
    last = remembered(tmp_path / "run")["defense"][key]
    for carried in (first, last):
        assert carried.shape == (32, 3, 8, 8)  # of a full batch, though the last one holds 4 images
        assert 0.5 * EPS < float(carried.abs().max()) <= EPS * (1 + 1e-6)
    assert not torch.equal(first, last)


WEIGHTS: list[dict[str, Tensor]] = []
GRADIENTS: list[dict[str, Tensor]] = []
LOSSES: list[float] = []
FRACTIONS: list[float] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    for kept in (WEIGHTS, GRADIENTS, LOSSES, FRACTIONS):
        kept.clear()


def keep(model: nn.Module) -> None:
    WEIGHTS.append({name: tensor.detach().clone() for name, tensor in model.state_dict().items()})


class Kept(Defense):
    """Keeps the weights before the first update and after each, the gradients and the losses."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        if not WEIGHTS:
            keep(model)
        result = super().loss(model, x, y, step, state)
        LOSSES.append(float(result.loss.detach()))
        return result

    def after_step(self, model: nn.Module, step: Step, state: State) -> None:
        keep(model)
        GRADIENTS.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


@dataclass(frozen=True, kw_only=True)
class KeptFreeAT(Kept, FreeAT):
    """Free-AT whose weights are kept."""


@dataclass(frozen=True, kw_only=True)
class KeptStandard(Kept, Standard):
    """Standard training whose weights are kept."""


@dataclass(frozen=True, kw_only=True)
class Asked(Cyclic):
    """A triangle that keeps what it is asked."""

    def __call__(self, t: float) -> float:
        FRACTIONS.append(t)
        return super().__call__(t)


@pytest.mark.slow
def test_free_at_updates_the_weights_in_each_replay(images: Path, tmp_path: Path) -> None:
    schedule, total = Asked(peak=0.05, rise=0.3), 2 * BATCHES * REPLAYS
    config = small_config(
        images,
        defense=KeptFreeAT(replays=REPLAYS),
        model=BATCH_NORM,
        averaging=averaged(0.7),
        optimizer=OptimizerConfig(lr=schedule),
    )
    summary = train(config, tmp_path / "run").summary
    assert summary["steps"] == total == remembered(tmp_path / "run")["step"]
    assert FRACTIONS[1:] == [step / total for step in range(total)]  # the first is the optimizer's, before the run
    assert len(WEIGHTS) == 1 + total
    # the triangle begins at 0; every later step moves the weights
    moved = [not torch.equal(a["net.fc.weight"], b["net.fc.weight"]) for a, b in itertools.pairwise(WEIGHTS)]
    assert moved == [False] + [True] * (total - 1)
    assert remembered(tmp_path / "run")["model"]["net.bn1.num_batches_tracked"] == total

    expected = {name: tensor.double() for name, tensor in WEIGHTS[0].items()}
    for weights in WEIGHTS[1:]:
        expected = {name: 0.7 * expected[name] + 0.3 * weights[name].double() for name in expected}
    for name, tensor in remembered(tmp_path / "run")["average"].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)

    found = metrics(tmp_path / "run", "epoch")
    assert [epoch["step"] for epoch in found] == [total // 2, total]
    assert [epoch["lr"] for epoch in found] == [schedule((total // 2 - 1) / total), schedule((total - 1) / total)]
    for e, epoch in enumerate(found):
        losses = LOSSES[e * total // 2 : (e + 1) * total // 2]
        sizes = [size for size in (32, 32, 32, 4) for _ in range(REPLAYS)]
        mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
        assert epoch["train"]["loss"] == pytest.approx(mean, rel=1e-6)


@dataclass(frozen=True, kw_only=True)
class Diverging(FreeAT):
    """Free-AT whose loss is NaN in the second batch."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        result = super().loss(model, x, y, step, state)
        return BatchLoss(result.loss * (math.nan if step.batch == 1 and step.epoch == 0 else 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_skipped_update_leaves_no_nan_in_free_ats_perturbation(norm: Norm, images: Path, tmp_path: Path) -> None:
    config = small_config(
        images,
        defense=Diverging(replays=REPLAYS),
        model=BATCH_NORM,
        threat=ThreatConfig(norm=norm, eps=0.1, pgd_alpha=0.025),
        monitors=MonitorConfig(on_nonfinite="skip"),
    )
    summary = train(config, tmp_path / "run").summary
    assert summary["steps"] == 2 * BATCHES * REPLAYS
    assert len([line for line in metrics(tmp_path / "run", "alarm") if line["monitor"] == "nonfinite"]) == REPLAYS
    state = remembered(tmp_path / "run")
    assert bool(state["defense"]["delta"].isfinite().all())
    assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.0), (0.6, 0.1)])
def test_adam_is_torchs(momentum: float, decay: float, images: Path, tmp_path: Path) -> None:
    schedule = Cyclic(peak=0.01, rise=0.3)
    optimizer = OptimizerConfig(name="adam", lr=schedule, momentum=momentum, weight_decay=decay)
    train(small_config(images, defense=KeptStandard(), optimizer=optimizer), tmp_path / "run")
    assert len(GRADIENTS) == 2 * BATCHES
    ours = {name: nn.Parameter(WEIGHTS[0][name].double()) for name in GRADIENTS[0]}
    by_hand = torch.optim.Adam(
        ours.values(), lr=1.0, betas=(momentum, 0.999), eps=1e-8, weight_decay=decay, foreach=False, fused=False
    )
    for step, (gradients, weights) in enumerate(zip(GRADIENTS, WEIGHTS[1:], strict=True)):
        by_hand.param_groups[0]["lr"] = schedule(step / (2 * BATCHES))
        for name, p in ours.items():
            p.grad = gradients[name].double()
        by_hand.step()
        for name, p in ours.items():
            torch.testing.assert_close(weights[name].double(), p.detach(), rtol=1e-4, atol=1e-5)
    state = remembered(tmp_path / "run")["optimizer"]["state"]
    assert all(set(entry) == {"step", "exp_avg", "exp_avg_sq"} for entry in state.values())


def test_adam_with_nesterovs_momentum_is_refused() -> None:
    with pytest.raises(InputError, match=r"^optimizer\.nesterov has no effect on Adam; .*optimizer\.name=sgd\.$"):
        OptimizerConfig(name="adam", nesterov=True)
    assert OptimizerConfig(name="sgd", nesterov=True).nesterov


def test_another_optimizer_is_another_run(images: Path, tmp_path: Path) -> None:
    config = small_config(images, defense=FGSMAT(), optimizer=ADAM)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {2: interrupt})
    other = dataclasses.replace(config, optimizer=dataclasses.replace(ADAM, name="sgd"))
    with pytest.raises(InputError, match=r"optimizer\.name=adam, not sgd"):
        train(other, tmp_path / "run", resume=True)


# the clean loss of the validation images stands in where a defense sees no clean images


@pytest.mark.parametrize(
    ("name", "live", "alarms"),
    [("fgsm-at", 2.0, [2]), ("fgsm-at", 0.1, []), ("trades", 2.0, [2]), ("trades", 0.1, [2]), ("free-at", 2.0, [2])],
)
def test_collapse_is_seen_on_validation_images_where_a_defense_sees_no_clean_ones(
    name: str, live: float, alarms: list[int], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate of 0 the clean training loss stays about log 3; what validation finds is given."""
    losses = itertools.cycle([live, 0.1 if live > 1.0 else 2.0])  # of the live weights, of the average

    def validate(model: nn.Module, images: Any, **settings: Any) -> dict[str, float]:
        return {"clean_loss": next(losses), "clean": 0.9, "fgsm": 0.5, "pgd": 0.4}

    monkeypatch.setattr("nuat.training.validation.validate", validate)
    config = small_config(
        images,
        defense=CASES[name][0],
        optimizer=OptimizerConfig(lr=Constant(peak=0.0)),
        monitors=MonitorConfig(collapse_patience=2),
        averaging=averaged(),
        epochs=3,
    )
    train(config, tmp_path / "run")
    found = metrics(tmp_path / "run", "alarm")
    assert [(line["monitor"], line["epoch"]) for line in found] == [("collapse", epoch) for epoch in alarms]
    if alarms:
        assert (f"{live:.3f}" in found[0]["message"]) == (name != "trades")


def test_without_clean_images_of_any_kind_no_collapse_is_claimed(images: Path, tmp_path: Path) -> None:
    config = small_config(
        images,
        defense=FGSMAT(),
        data=DataConfig(path=images, validation=0),
        optimizer=OptimizerConfig(lr=Constant(peak=0.0)),
        monitors=MonitorConfig(collapse_patience=1),
    )
    train(config, tmp_path / "run")
    assert metrics(tmp_path / "run", "alarm") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["free-at", "awp", "trades-awp", "fgsm-pgi", "r-mgm"])
def test_bf16_moves_the_weights_as_fp32_does(name: str, images: Path, tmp_path: Path) -> None:
    results: dict[str, dict[str, Tensor]] = {}
    for precision in ("fp32", "bf16"):
        config = small_config(images, defense=CASES[name][0], precision=precision, epochs=1)
        train(config, tmp_path / precision)
        results[precision] = remembered(tmp_path / precision)["model"]
    config = small_config(images, defense=KeptStandard(), epochs=1)
    train(config, tmp_path / "first")
    for key, tensor in results["bf16"].items():
        assert tensor.dtype == torch.float32
        moved = float((tensor - WEIGHTS[0][key]).norm())
        apart = float((tensor - results["fp32"][key]).norm())
        assert moved > 2 * apart > 0, key
