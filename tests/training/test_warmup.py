"""eps is warmed up step by step: what the defense sees, what shrinks with it, resumption, what stays at full eps."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import Linear
from torch import Tensor, nn
from training.small_runs import (
    BATCHES,
    EPS,
    LAM,
    PowerCut,
    assert_same_run,
    averaged,
    cut,
    interrupt,
    metrics,
    remembered,
    small_config,
    train,
    write_images,
)

from nuat.config import OptimizerConfig, ThreatConfig
from nuat.core.losses import cross_entropy
from nuat.core.schedules import Constant
from nuat.core.threat import Linf
from nuat.defenses import FGSMAT, GAT, BatchLoss, Defense, FreeAT, NuAT, NuAT2, NuATHybrid, Standard, State, Step
from nuat.defenses.nuat import single_step_attack, start
from nuat.defenses.nuat2 import two_step_attack
from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint, read_info
from nuat.training.signals import Interrupted


@dataclass(frozen=True, kw_only=True)
class Seeing(Defense):
    """Writes down the radius and the fraction of every step that it is given."""

    replays: int = 1

    @property
    def updates_per_batch(self) -> int:
        return self.replays

    def init_state(self, model: nn.Module) -> State:
        return {"seen": torch.zeros(0, 2, dtype=torch.float64)}

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        row = torch.tensor([[step.threat.eps, step.size_factor]], dtype=torch.float64)
        state["seen"] = torch.cat([state["seen"], row])
        return BatchLoss(cross_entropy(model(x), y))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def expected(warmup: float, steps: int) -> list[float]:
    return [min(1.0, (step + 1) / (warmup * steps)) if warmup else 1.0 for step in range(steps)]


@pytest.mark.parametrize("replays", [1, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.4, 0.5, 0.99])
def test_the_radius_of_every_step(warmup: float, replays: int, images: Path, tmp_path: Path) -> None:
    """Replays of a batch are steps of their own."""
    train(small_config(images, defense=Seeing(replays=replays), eps_warmup=warmup), tmp_path / "run")
    seen = remembered(tmp_path / "run")["defense"]["seen"]
    steps = 2 * BATCHES * replays
    assert seen[:, 1].tolist() == pytest.approx(expected(warmup, steps))
    assert seen[:, 0].tolist() == pytest.approx([EPS * fraction for fraction in expected(warmup, steps)])
    assert seen[-1].tolist() == [EPS, 1.0]
    assert (seen[0, 0] < EPS) == (warmup * steps > 1)


def test_free_at_starts_within_the_small_ball(images: Path, tmp_path: Path) -> None:
    """The perturbation that it carries is never larger than the radius of its replay."""
    config = small_config(images, defense=FreeAT(replays=3), eps_warmup=0.5)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {3: interrupt})
    delta = remembered(tmp_path / "run")["defense"]["delta"]
    # three replays of the first of 8 batches: 24 steps in all, warmed up over 12
    assert float(delta.abs().max()) == pytest.approx(EPS * 3 / 12, rel=1e-5)


@pytest.mark.parametrize("warmup", [0.01, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [None, 0.05, 0.1])
def test_the_start_shrinks_with_eps(warmup: float, alpha: float | None) -> None:
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    noise = (start(x, step_at(warmup), alpha) - x).abs()
    magnitude = (EPS / 2 if alpha is None else alpha) * warmup
    torch.testing.assert_close(noise, torch.full_like(x, magnitude))


def step_at(warmup: float, batch: int = 1) -> Step:
    generator = torch.Generator().manual_seed(0)
    return Step(
        threat=Linf(EPS * warmup),
        epoch=1,
        epochs=2,
        batch=batch,
        batches=4,
        size_factor=warmup,
        generator=generator,
    )


ATTACKS: dict[str, Any] = {
    "nuat": lambda model, x, y, step: single_step_attack(model, x, y, None, 1.0, EPS, step),
    "nuat2": lambda model, x, y, step: two_step_attack(model, model, x, y, 1.0, EPS, step, regularised=True),
    "gat": lambda model, x, y, step: GAT(alpha=EPS)._attack(model, x, y, model(x).detach(), 1.0, step),
}


@pytest.mark.parametrize("warmup", [0.02, 0.2, 0.49, 1.0])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_gradient_decides_at_every_eps(name: str, warmup: float) -> None:
    """A start of twice the radius or more would leave the corner of the noise, whatever the model says."""
    x, y = torch.full((4, 1, 4, 4), 0.5), torch.tensor([0, 1, 0, 1])
    model = Linear(2, 1, 4, seed=1)
    opposite = Linear(2, 1, 4, seed=1)
    with torch.no_grad():
        opposite.weight.neg_()
    found, other = (ATTACKS[name](m, x, y, step_at(warmup, batch=0)) for m in (model, opposite))
    for x_adv in (found, other):
        assert float((x_adv - x).abs().max()) <= EPS * warmup * (1 + 1e-5)
    # noise as large as the radius: the step of eps carries half of the pixels back to the image, half to the corner
    moved = (found - other).abs()
    assert bool((moved > 0.9 * EPS * warmup).all())
    assert cross_entropy(model(found), y) > cross_entropy(model(x), y)


CASES: dict[str, Defense] = {
    "nuat": NuAT(lam=LAM, alpha=EPS),
    "nuat2": NuAT2(lam=LAM, alpha=EPS, attack_tau=0.5),
    "hybrid": NuATHybrid(lam=LAM, alpha=EPS, drop=0.155),
    "free-at": FreeAT(replays=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_resuming_in_the_middle_of_the_warm_up_is_bit_for_bit(name: str, images: Path, tmp_path: Path) -> None:
    defense = CASES[name]
    config = small_config(images, defense=defense, eps_warmup=0.8, averaging=averaged())
    train(config, tmp_path / "whole")
    train(dataclasses.replace(config, eps_warmup=0.0), tmp_path / "without")
    one, other = (remembered(tmp_path / run)["model"] for run in ("whole", "without"))
    assert any(not torch.equal(one[key], other[key]) for key in one)  # the warm-up does something

    at = (BATCHES + 1) * defense.updates_per_batch
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {at: interrupt})
    assert (
        read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"]
        == at
        < 0.8 * 2 * BATCHES * defense.updates_per_batch
    )
    train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_power_cut_in_the_middle_of_the_warm_up(images: Path, tmp_path: Path) -> None:
    """Updates since the end of epoch 1 are repeated at the same radii."""
    config = small_config(images, defense=Seeing(), eps_warmup=0.99)
    with pytest.raises(PowerCut):
        train(config, tmp_path / "run", {BATCHES + 2: cut})
    train(config, tmp_path / "run", resume=True)
    seen = remembered(tmp_path / "run")["defense"]["seen"]
    assert seen[:, 1].tolist() == pytest.approx(expected(0.99, 2 * BATCHES))


@pytest.mark.slow
def test_validation_and_evaluation_take_the_full_radius(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nuat.training import validation

    radii: list[float] = []
    validate = validation.validate

    def watched(*arguments: Any, threat: ThreatConfig, **keywords: Any) -> dict[str, float]:
        radii.append(threat.eps)
        return validate(*arguments, threat=threat, **keywords)

    monkeypatch.setattr(validation, "validate", watched)
    still = OptimizerConfig(lr=Constant(peak=0.0))  # the same weights, so that the same radius gives the same numbers
    found = {}
    for warmup in (0.0, 0.99):
        config = small_config(images, defense=FGSMAT(), eps_warmup=warmup, optimizer=still)
        train(config, tmp_path / str(warmup))
        found[warmup] = [line["validation"] for line in metrics(tmp_path / str(warmup), "epoch")]
    assert radii
    assert set(radii) == {EPS}
    assert found[0.0] == found[0.99]
    assert read_info(tmp_path / "0.99" / "best.safetensors").threat.eps == EPS  # what an evaluation takes


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_fractions_that_are_none_are_refused(warmup: float, images: Path) -> None:
    with pytest.raises(InputError, match=r"eps_warmup=.*: expected a fraction of the run in \[0, 1\)"):
        small_config(images, eps_warmup=warmup)


def test_it_is_refused_where_nothing_is_attacked(images: Path) -> None:
    with pytest.raises(InputError, match="eps_warmup has no effect on a defense that does not attack"):
        small_config(images, defense=Standard(), eps_warmup=0.1)
    assert small_config(images, defense=Standard()).eps_warmup == 0.0
