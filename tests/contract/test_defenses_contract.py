"""The contract of every defense in tests/cases.py."""

import copy
import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CLASSES, DEFENSES
from oracles import TinyConv, assert_inside, assert_unchanged, images, labels, snapshot, step_at
from torch import Tensor, nn

from nuat.core.losses import cross_entropy, soft_labels
from nuat.core.threat import Norm
from nuat.defenses import BatchLoss, State

EVERY = pytest.mark.parametrize("name", DEFENSES)
BATCHES = pytest.mark.parametrize("batch", [0, 1])  # NuAT alternates between two attacks


def start(name: str, model: nn.Module) -> State:
    return {**DEFENSES[name].defense.init_state(model), **DEFENSES[name].state}


def warm(name: str, model: nn.Module, channels: int, eps: float) -> State:
    """Return the state after an earlier batch of the epoch: what a defense carries over is there."""
    state = start(name, model)
    twin, x = copy.deepcopy(model), images(5, channels, eps=eps, seed=3)
    DEFENSES[name].defense.loss(twin, x, labels(5, CLASSES, 3), step_at(1, 0, eps=eps), state).loss.backward()
    return state


def run(
    name: str,
    model: nn.Module,
    state: State,
    *,
    size: int = 5,
    channels: int = 3,
    eps: float = 8 / 255,
    norm: Norm = "Linf",
    batch: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> BatchLoss:
    x, y = images(size, channels, 4, dtype, eps), labels(size, CLASSES)
    return DEFENSES[name].defense.loss(model, x, y, step_at(1, batch, eps=eps, norm=norm, seed=seed), state)


def check(result: BatchLoss, model: nn.Module) -> None:
    """A finite scalar with a graph that reaches every parameter; metrics and events that can be recorded."""
    assert result.loss.shape == ()
    assert result.loss.requires_grad
    assert bool(result.loss.isfinite())
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


@pytest.mark.parametrize(("size", "channels", "batch"), [(2, 3, 0), (5, 1, 1)])
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
    assert bool(attacking) == DEFENSES[name].eval_attack
    for n in range(len(passes)):
        model = TinyConv(classes=CLASSES).train()
        model.norm1.eval()
        state, calls, before = start(name, model), [], snapshot(model)

        def fail(module: nn.Module, inputs: object, calls: list = calls, n: int = n) -> None:
            calls.append(1)
            if len(calls) == n + 1:
                raise FullError

        model.dropout.register_forward_pre_hook(fail)
        with pytest.raises(FullError):
            run(name, model, state)
        assert [key for key, module in model.named_modules() if not module.training] == ["norm1"], n
        assert all(torch.equal(p, before[key]) for key, p in model.named_parameters()), n


@pytest.mark.parametrize(("eps", "channels", "batch"), [(8 / 255, 1, 1), (8 / 255, 3, 0), (0.3, 3, 1)])
@pytest.mark.parametrize("name", [name for name, case in DEFENSES.items() if case.radius])
def test_the_images_trained_on_lie_inside_ball_and_box_exactly(
    name: str, eps: float, channels: int, batch: int
) -> None:
    model, radius = TinyConv(channels, CLASSES).train(), DEFENSES[name].radius
    x, state = images(5, channels, 4, eps=eps), warm(name, model, channels, eps)
    trained: list[Tensor] = []
    model.register_forward_hook(lambda m, inputs, _: trained.append(inputs[0].detach().clone()) if m.training else None)
    run(name, model, state, channels=channels, eps=eps, batch=batch)
    attacked = [z for z in trained if not torch.equal(z, x)]
    assert attacked
    for z in attacked:
        # several balls' radii are a sum of roundings, one ball's is kept to the last bit
        assert_inside(z, x, eps if radius == 1.0 else min(1.0, radius * eps * (1 + 1e-6)))
        assert float((z - x).abs().max()) > 0.9 * min(eps, 0.25)
    reach = max(float((z - x).abs().max()) for z in attacked)
    assert (reach > eps * (1 + 1e-6)) == (radius > 1.0)


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.6), ("L1", 2.0)])
@pytest.mark.parametrize("name", [name for name, case in DEFENSES.items() if case.radius])
def test_every_defense_trains_in_l2_and_l1(name: str, norm: Norm, eps: float) -> None:
    """In the ball and the box; two batches, of which the second has what a defense carries over."""
    model, trained = TinyConv(classes=CLASSES).train(), []
    model.register_forward_hook(lambda m, inputs, _: trained.append(inputs[0].detach().clone()) if m.training else None)
    state, x = start(name, model), images(5, eps=eps)
    for batch in (0, 1):
        model.zero_grad()
        check(run(name, model, state, eps=eps, norm=norm, batch=batch), model)
    attacked = [z for z in trained if not torch.equal(z, x)]
    assert attacked
    order = {"L2": 2, "L1": 1}[norm]
    for z in attacked:
        if DEFENSES[name].radius == 1.0:
            assert_inside(z, x, eps, norm)
    reach = [float(torch.linalg.vector_norm((z - x).flatten(1), order, dim=1).max()) for z in attacked]
    assert max(reach) > 0.5 * eps


@BATCHES
@EVERY
def test_the_clean_loss_is_that_of_the_clean_images_trained_on(name: str, batch: int) -> None:
    """Who trains on clean images says what they cost, for the collapse monitor; nobody else claims to know."""
    model = TinyConv(classes=CLASSES, dropout=0.0).train()
    x, y, state = images(5), labels(5, CLASSES), warm(name, model, 3, 8 / 255)
    clean: list[float] = []

    def look(m: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        if m.training and torch.equal(inputs[0], x):
            clean.append(float(cross_entropy(logits.detach(), y)))

    model.register_forward_hook(look)
    result = run(name, model, state, batch=batch)
    assert ("clean_loss" in result.metrics) == bool(clean)
    if clean:
        assert float(result.metrics["clean_loss"]) == pytest.approx(clean[-1], rel=1e-6)


@pytest.mark.parametrize("kind", ["smoothed", "mixed"])
@EVERY
def test_soft_labels_reach_every_cross_entropy_of_attack_and_loss(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss and its gradients are those of hard labels where each cross-entropy is written out for the soft ones."""
    model, x, y = TinyConv(classes=CLASSES, dropout=0.0).double().train(), images(5, dtype=torch.float64), labels(5, 4)
    defense = dataclasses.replace(DEFENSES[name].defense, smoothing=0.4)
    targets = soft_labels(y, CLASSES, 0.4, torch.float64)
    if kind == "mixed":
        targets = 0.7 * targets + 0.3 * targets.roll(1, 0)

    def loss(y: Tensor) -> list[Tensor]:
        twin = copy.deepcopy(model)
        state = {**defense.init_state(twin), **DEFENSES[name].state}
        found = defense.loss(twin, x, y, step_at(1, 1), state).loss
        found.backward()
        return [found.detach(), *(p.grad for p in twin.parameters())]

    def written_out(logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        shares = y if y.is_floating_point() else targets  # the patterns of LIET have labels of their own
        log_p = logits - logits.logsumexp(dim=1, keepdim=True)
        losses = -(shares * log_p).sum(dim=1)
        return losses.mean() if reduction == "mean" else losses.sum()

    soft, hard = loss(targets), loss(y)
    monkeypatch.setattr(nn.functional, "cross_entropy", written_out)
    torch.testing.assert_close(soft, loss(y), rtol=1e-9, atol=1e-12)
    assert float(soft[0]) != pytest.approx(float(hard[0]), rel=1e-3)


@EVERY
def test_two_steps_of_half_the_size_where_the_attack_is_a_single_one(name: str) -> None:
    """They reach the edge of the ball and stay inside; the other defenses attack as ever."""
    x, y, eps = images(5), labels(5, CLASSES), 8 / 255

    def trained(*, two_steps: bool) -> tuple[Tensor, list[Tensor], int]:
        model, attacked, passes = TinyConv(classes=CLASSES, dropout=0.0).train(), [], []
        model.register_forward_pre_hook(lambda m, inputs: (attacked if m.training else passes).append(inputs[0]))
        step = dataclasses.replace(step_at(1, 0, eps=eps), two_steps=two_steps)
        loss = DEFENSES[name].defense.loss(model, x, y, step, start(name, model)).loss.detach()
        return loss, attacked, len(passes)

    (one, _, passes), (two, attacked, more) = trained(two_steps=False), trained(two_steps=True)
    if name not in ("fgsm-at", "rfgsm-at", "fbf"):
        assert torch.equal(one, two)
        assert more == passes
        return
    assert not torch.equal(one, two)
    assert more == 2 * passes
    (z,) = attacked
    assert_inside(z, x, eps)
    assert float((z - x).abs().max()) > 0.9 * eps


@EVERY
def test_batches_of_any_size_follow_each_other(name: str) -> None:
    """A short last batch, then a full one, then a larger one than any before; each inside its own ball."""
    model = TinyConv(classes=CLASSES).train()
    state, radius = start(name, model), max(DEFENSES[name].radius, 1.0)
    trained: list[Tensor] = []
    model.register_forward_hook(lambda m, inputs, _: trained.append(inputs[0].detach().clone()) if m.training else None)
    for batch, size in enumerate((5, 2, 5, 7)):
        for _ in range(DEFENSES[name].defense.updates_per_batch):
            trained.clear()
            check(run(name, model, state, size=size, batch=batch), model)
            model.zero_grad()
            for z in trained:
                assert_inside(z, images(size), radius * 8 / 255 * (1 + 1e-6 * (radius > 1.0)))


@EVERY
def test_a_frozen_weight_takes_no_part(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    model.conv2.weight.requires_grad_(False)
    frozen, used = model.conv2.weight.detach().clone(), []
    model.register_forward_pre_hook(lambda m, _: used.append(m.conv2.weight.detach().clone()))
    result = run(name, model, start(name, model))
    result.loss.backward()
    assert all(torch.equal(weight, frozen) for weight in used)
    assert [key for key, p in model.named_parameters() if p.grad is None] == ["conv2.weight"]


@EVERY
def test_weights_are_untouched_and_statistics_move_in_training_mode_alone(name: str) -> None:
    model = TinyConv(classes=CLASSES).train()
    before, passes, own = snapshot(model), [], model.norm1.running_mean
    # a pass on copies of the statistics (AWP's search) moves those
    model.register_forward_hook(lambda m, *_: passes.append(m.training and m.norm1.running_mean is own))
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
    assert torch.equal(losses[0], losses[2]) == (not DEFENSES[name].random)


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
    """Do one whole batch: loss, update, after_step, and the replays."""
    defense, step = DEFENSES[name].defense, step_at(epoch, batch, seed=10 * epoch + batch)
    for _ in range(defense.updates_per_batch):
        result = defense.loss(model, images(5, seed=batch), labels(5, CLASSES, batch), step, state)
        model.zero_grad()
        result.loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.5 * p.grad
        defense.after_step(model, step, state)
    return result.loss.detach()


@pytest.mark.parametrize("stop", [0, 2])  # before the first batch, too
@EVERY
def test_the_state_survives_a_checkpoint_bit_for_bit(name: str, stop: int) -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).train()
    state = start(name, model)
    for batch in range(stop):
        advance(name, model, state, 1, batch)
    assert plain(state)
    file = io.BytesIO()
    torch.save({"state": state, "model": model.state_dict()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    resumed = TinyConv(classes=CLASSES, dropout=0.0, seed=1).train()
    resumed.load_state_dict(loaded["model"])
    assert list(loaded["state"]) == list(start(name, resumed))  # all its names, from the start
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
