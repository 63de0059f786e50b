"""What every defense keeps to. A new defense is one line in DEFENSES."""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from oracles import TinyConv, assert_inside, assert_unchanged, images, labels, snapshot, step_at
from torch import Tensor, nn

from nuat.defenses import BatchLoss, Defense, NuAT, NuAT2, NuATHybrid, Standard, State
from nuat.schedules import Ramp

CLASSES = 4
LAM = Ramp(peak=8.0)


@dataclass
class Case:
    """A defense, and what its state is changed to so that the case is the one meant."""

    defense: Defense
    state: dict[str, Any] = field(default_factory=dict)


ALARM = {"epoch": 1, "previous_mean": 1e3}  # every batch is below the previous epoch's mean
CALM = {"epoch": 1, "previous_mean": 1e-3}

DEFENSES: dict[str, Case] = {
    "standard": Case(Standard()),
    "nuat": Case(NuAT(lam=LAM)),
    "nuat-authors": Case(NuAT(lam=LAM, passes="authors")),
    "nuat-alpha": Case(NuAT(lam=LAM, alpha=0.3)),
    "nuat2": Case(NuAT2(lam=LAM)),
    "nuat2-wa": Case(NuAT2(lam=LAM, attack_tau=0.5)),
    "nuat-h-calm": Case(NuATHybrid(lam=LAM), CALM),
    "nuat-h-alarm": Case(NuATHybrid(lam=LAM), ALARM),
    "nuat-h-authors-alarm": Case(NuATHybrid(lam=LAM, passes="authors"), ALARM),
}
CLEAN_ONLY = {"standard"}  # trains on no attacked images
EVERY = pytest.mark.parametrize("name", DEFENSES)
BATCHES = pytest.mark.parametrize("batch", [0, 1])  # NuAT alternates between two attacks


def start(name: str, model: nn.Module) -> State:
    return {**DEFENSES[name].defense.init_state(model), **DEFENSES[name].state}


def run(
    name: str,
    model: nn.Module,
    state: State,
    *,
    size: int = 5,
    channels: int = 3,
    eps: float = 8 / 255,
    batch: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> BatchLoss:
    x, y = images(size, channels, 4, dtype, eps), labels(size, CLASSES)
    return DEFENSES[name].defense.loss(model, x, y, step_at(1, batch, eps=eps, seed=seed), state)


def check(result: BatchLoss, model: nn.Module) -> None:
    """A finite scalar with a graph that reaches every parameter; metrics and events that can be recorded."""
    assert result.loss.shape == ()
    assert result.loss.requires_grad
    assert bool(result.loss.isfinite())
    assert "clean_loss" in result.metrics
    for key, value in result.metrics.items():
        assert isinstance(key, str)
        if isinstance(value, Tensor):
            assert value.shape == ()
            assert not value.requires_grad
        assert float(value) == float(value)
    for event in result.events:
        assert isinstance(event["kind"], str)
        json.dumps(dict(event))
    assert all(p.grad is None for p in model.parameters())  # until backward
    result.loss.backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert bool(p.grad.isfinite().all()), parameter_name
        assert float(p.grad.abs().sum()) > 0, parameter_name


@BATCHES
@pytest.mark.parametrize(("size", "channels"), [(2, 3), (5, 1), (5, 3)])
@EVERY
def test_the_loss_is_a_finite_scalar_that_trains_every_parameter(
    name: str, size: int, channels: int, batch: int
) -> None:
    model = TinyConv(channels, CLASSES).train()
    check(run(name, model, start(name, model), size=size, channels=channels, batch=batch), model)


@BATCHES
@EVERY
def test_bfloat16_autocast(name: str, batch: int) -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).train()
    wide = float(run(name, copy.deepcopy(model), start(name, model), batch=batch).loss.detach())
    seen: list[torch.dtype] = []
    model.linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        result = run(name, model, start(name, model), batch=batch)
    assert set(seen) == {torch.bfloat16}
    assert result.loss.dtype == torch.float32
    assert float(result.loss.detach()) == pytest.approx(wide, rel=0.1)
    check(result, model)


@EVERY
def test_float64(name: str) -> None:
    model = TinyConv(classes=CLASSES).double().train()
    result = run(name, model, start(name, model), dtype=torch.float64)
    assert result.loss.dtype == torch.float64
    check(result, model)


@EVERY
def test_each_module_is_left_in_its_own_mode(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    model.norm1.eval()  # frozen
    frozen = {key: value.clone() for key, value in model.norm1.named_buffers()}
    run(name, model, start(name, model))
    assert [key for key, module in model.named_modules() if not module.training] == ["norm1"]
    assert all(torch.equal(value, frozen[key]) for key, value in model.norm1.named_buffers())


class FullError(RuntimeError):
    """A pass that fails."""


@EVERY
def test_modes_are_restored_when_any_of_the_passes_raises(name: str) -> None:
    passes: list[bool] = []
    model = TinyConv(classes=CLASSES).train()
    model.dropout.register_forward_pre_hook(lambda module, inputs: passes.append(module.training))
    run(name, model, start(name, model))
    attacking = [n for n, training in enumerate(passes) if not training]
    assert bool(attacking) == (name not in CLEAN_ONLY)
    for n in range(len(passes)):
        model = TinyConv(classes=CLASSES).train()
        model.norm1.eval()
        state, calls = start(name, model), []

        def fail(module: nn.Module, inputs: object, calls: list = calls, n: int = n) -> None:
            calls.append(1)
            if len(calls) == n + 1:
                raise FullError

        model.dropout.register_forward_pre_hook(fail)
        with pytest.raises(FullError):
            run(name, model, state)
        assert [key for key, module in model.named_modules() if not module.training] == ["norm1"], n


@BATCHES
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("eps", [8 / 255, 0.3])
@pytest.mark.parametrize("name", [name for name in DEFENSES if name not in CLEAN_ONLY])
def test_the_images_trained_on_lie_inside_ball_and_box_exactly(
    name: str, eps: float, channels: int, batch: int
) -> None:
    model = TinyConv(channels, CLASSES).train()
    x = images(5, channels, 4, eps=eps)
    trained: list[Tensor] = []
    model.register_forward_hook(lambda m, inputs, _: trained.append(inputs[0].detach().clone()) if m.training else None)
    run(name, model, start(name, model), channels=channels, eps=eps, batch=batch)
    attacked = [z for z in trained if not torch.equal(z, x)]
    assert len(attacked) == 1
    assert len(trained) > len(attacked)
    assert_inside(attacked[0], x, eps)
    assert float((attacked[0] - x).abs().max()) > 0.9 * min(eps, 0.25)


@EVERY
def test_weights_are_untouched_and_statistics_move_in_training_mode_alone(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    before, passes = snapshot(model), []
    model.register_forward_hook(lambda m, *_: passes.append(m.training))
    run(name, model, start(name, model))
    after = model.state_dict()
    for key, _ in model.named_parameters():
        assert torch.equal(after[key], before[key]), key
    assert int(after["norm1.num_batches_tracked"]) == sum(passes)
    assert not torch.equal(after["norm1.running_mean"], before["norm1.running_mean"])


@BATCHES
@EVERY
def test_the_same_seed_gives_the_same_loss_bit_for_bit(name: str, batch: int) -> None:
    losses = []
    for seed, noise in ((3, 0), (3, 5), (4, 0)):
        model = TinyConv(classes=CLASSES, dropout=0.0).train()
        torch.manual_seed(noise)  # the global generator takes no part
        before = torch.get_rng_state()
        losses.append(run(name, model, start(name, model), batch=batch, seed=seed, eps=0.3).loss.detach())
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2]) == (name in CLEAN_ONLY)


@EVERY
def test_without_a_generator_the_global_one_is_drawn_from(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    x, y = images(5), labels(5, CLASSES)
    result = DEFENSES[name].defense.loss(model, x, y, step_at(seed=None), start(name, model))
    check(result, model)


def plain(value: Any) -> bool:
    """Whether a state holds tensors, numbers, strings, none and dictionaries of these, and nothing else."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return value is None or isinstance(value, Tensor | bool | int | float | str)


def advance(name: str, model: nn.Module, state: State, epoch: int, batch: int) -> Tensor:
    """One whole step: loss, update, after_step."""
    defense, step = DEFENSES[name].defense, step_at(epoch, batch, seed=10 * epoch + batch)
    result = defense.loss(model, images(5, seed=batch), labels(5, CLASSES, batch), step, state)
    model.zero_grad()
    result.loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.5 * p.grad
    defense.after_step(model, step, state)
    return result.loss.detach()


@EVERY
def test_the_state_survives_a_checkpoint_bit_for_bit(name: str) -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).train()
    state = start(name, model)
    advance(name, model, state, 1, 0)
    advance(name, model, state, 1, 1)
    assert plain(state)
    file = io.BytesIO()
    torch.save({"state": state, "model": model.state_dict()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    resumed = TinyConv(classes=CLASSES, dropout=0.0, seed=1).train()
    resumed.load_state_dict(loaded["model"])
    for epoch, batch in ((1, 2), (2, 0), (2, 1)):
        here, there = (advance(name, m, s, epoch, batch) for m, s in ((model, state), (resumed, loaded["state"])))
        assert torch.equal(here, there)
    assert_unchanged(resumed, snapshot(model))


@EVERY
def test_after_step_leaves_the_model_alone(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    state = start(name, model)
    before = snapshot(model)
    assert DEFENSES[name].defense.after_step(model, step_at(), state) is None
    assert_unchanged(model, before)
    assert model.training
    assert plain(state)


def test_after_step_moves_the_attacks_average() -> None:
    model = TinyConv(classes=CLASSES).train()
    state = start("nuat2-wa", model)
    before = {key: tensor.clone() for key, tensor in state["attack_average"].items()}
    with torch.no_grad():
        model.linear.weight += 1.0
        model.norm1.running_mean += 2.0
    DEFENSES["nuat2-wa"].defense.after_step(model, step_at(), state)
    average = state["attack_average"]
    torch.testing.assert_close(average["linear.weight"], before["linear.weight"] + 0.5)
    torch.testing.assert_close(average["norm1.running_mean"], before["norm1.running_mean"] + 1.0)
    assert torch.equal(average["conv1.weight"], before["conv1.weight"])


@EVERY
def test_the_summary_can_be_recorded(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    state = start(name, model)
    run(name, model, state)
    summary = DEFENSES[name].defense.summary(state, 3)
    assert json.loads(json.dumps(summary)) == summary


def test_the_cases_are_the_ones_meant() -> None:
    two_step: dict[str, Callable[[], float]] = {}
    for name in DEFENSES:
        if name.startswith("nuat-h"):
            model = TinyConv(classes=CLASSES).train()
            two_step[name] = float(run(name, model, start(name, model)).metrics["two_step"])
    assert two_step == {"nuat-h-calm": 0.0, "nuat-h-alarm": 1.0, "nuat-h-authors-alarm": 1.0}
