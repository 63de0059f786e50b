"""Free-AT replays each batch, and carries its perturbation from batch to batch."""

import pytest
import torch
from cases import CLASSES, DEFENSES
from defenses.baselines_equality import CASES, EPS, NORMS, Fast, assert_equals_the_slow_one, both, network
from oracles import TinyConv, images, labels, step_at
from torch import Tensor, nn

from nuat.core.threat import Linf
from nuat.defenses import FGSMPGI, Defense, FreeAT, Step
from nuat.defenses.free_at import carry


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("free-at", norm)


@pytest.mark.slow
def test_it_carries_over_short_batches() -> None:
    """Rows that a short batch does not have wait for the next full one."""
    fast, _ = both("free-at")
    full, short = fast.carries[2 * 3 - 1], fast.carries[3 * 3 - 1]
    assert full is not None
    assert short is not None
    assert torch.equal(full[5], short[5])
    assert not torch.equal(full[:5], short[:5])
    # the rows of a larger batch than any before start at 0 beside what there is
    state, x = {"delta": full.clone()}, torch.zeros(8, *full.shape[1:], dtype=full.dtype)
    carried = carry(state, "delta", x)
    assert torch.equal(carried[:6], full)
    assert not bool(carried[6:].any())
    assert state["delta"].shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [8 / 255, 0.1, 0.3])
def test_the_perturbation_leaves_the_border_of_the_ball_again(eps: float, dtype: torch.dtype) -> None:
    """Inside the box every component moves in every replay; at the border, back or not at all."""
    margin = eps + 0.05
    x = (margin + (1 - 2 * margin) * images(6, dtype=torch.float64)).to(dtype)
    y, model = labels(6, CLASSES), TinyConv(classes=CLASSES, batch_norm=False, dropout=0.0).to(dtype)
    defense = FreeAT()
    state = defense.init_state(model)
    step = Step(threat=Linf(eps), epoch=0, epochs=1, batch=0, batches=1)
    for label in (y, (y + 1) % CLASSES, (y + 2) % CLASSES, y):
        before = None if state["delta"] is None else state["delta"].clone()
        at: list[Tensor] = []
        with model.register_forward_pre_hook(lambda m, inputs, at=at: at.append(inputs[0].detach().clone())):
            defense.loss(model, x, label, step, state).loss.backward()
        x_adv = at[0].requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x_adv), label), x_adv)
        start = torch.zeros_like(x) if before is None else before
        expected = (start + eps * gradient.sign()).clamp(-eps, eps)
        assert torch.equal(state["delta"], expected)
    assert bool((state["delta"] != before).any())


@pytest.mark.parametrize(("name", "key"), [("free-at", "delta"), ("fgsm-pgi", "prior")])
def test_nothing_is_carried_before_the_first_batch(name: str, key: str) -> None:
    assert CASES[name][0].init_state(network(True)) == {key: None}
    first = Fast(CASES[name][0], True).carries[0]
    assert first is not None
    assert first.shape == (6, 3, 6, 6)
    assert 0.9 * EPS < float(first.abs().max()) <= EPS


class AnySize(nn.Module):
    """Logits of images of any size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean((2, 3))


@pytest.mark.parametrize(("defense", "name"), [(FreeAT(replays=2), "delta"), (FGSMPGI(), "prior")])
def test_they_begin_anew_where_images_become_larger(defense: Defense, name: str) -> None:
    model = AnySize().train()
    state = defense.init_state(model)
    for side in (6, 6, 9):
        x, y = images(6, 3, side), labels(6, 4, 1)
        defense.loss(model, x, y, step_at(0, 0, eps=EPS), state).loss.backward()
        assert state[name].shape == x.shape
        assert 0.0 < float(state[name].abs().max()) <= EPS * 1.0001
    fresh = defense.init_state(model)
    defense.loss(model, images(6, 3, 9), labels(6, 4, 1), step_at(0, 0, eps=EPS), fresh).loss.backward()
    assert torch.equal(fresh[name], state[name])


def test_a_short_batch_uses_the_first_rows_and_keeps_the_others() -> None:
    defense, model = FreeAT(replays=2), TinyConv(classes=4, dropout=0.0).train()
    state = defense.init_state(model)
    defense.loss(model, images(6, 3, 6), labels(6, 4, 1), step_at(0, 0, eps=EPS), state).loss.backward()
    before = state["delta"].clone()
    defense.loss(model, images(2, 3, 6, seed=3), labels(2, 4, 2), step_at(0, 0, eps=EPS), state).loss.backward()
    assert torch.equal(state["delta"][2:], before[2:])
    assert not torch.equal(state["delta"][:2], before[:2])


def test_the_default_is_that_of_their_code() -> None:
    assert FreeAT().replays == FreeAT().updates_per_batch == 8


def test_only_free_at_replays() -> None:
    assert FreeAT(replays=3).updates_per_batch == 3
    others = [case.defense for case in DEFENSES.values() if not isinstance(case.defense, FreeAT)]
    assert {defense.updates_per_batch for defense in others} == {1}
