"""NuAT-H is single-step where the clean loss holds, two-step where it drops, and counts both."""

import json
import math
from typing import Any

import pytest
import torch
from defenses.algorithm1_equality import GAUSSIAN, RAMP, assert_equal, both
from oracles import TinyConv, images, labels, step_at
from reference.algorithm1 import nuclear_norm
from torch import Tensor, nn

from nuat.core.losses import least_cross_entropy
from nuat.core.schedules import Ramp
from nuat.defenses import NuAT, NuAT2, NuATHybrid, State, Step
from nuat.errors import InputError

LAM = Ramp(peak=8.0)


class Chosen(nn.Module):
    """A model whose clean loss is chosen: two classes, the logit of class 0 is ``self.logit``, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.logit + 0.0 * x.flatten(1).sum(dim=1, keepdim=True)
        return torch.cat([first, torch.zeros_like(first)], dim=1)

    def give(self, loss: float) -> None:
        """Make the cross-entropy of class 0 this much."""
        with torch.no_grad():
            self.logit.fill_(-math.log(math.expm1(loss)))


def feed(defense: NuATHybrid, losses: list[list[float]], state: State | None = None) -> tuple[State, list, list]:
    """Run batches whose clean losses are given, per epoch; return the state, what was two-step, and the events."""
    model = Chosen().double()
    state = defense.init_state(model) if state is None else state
    two_step, events = [], []
    x, y = images(2, 1, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    for epoch, epoch_losses in enumerate(losses):
        for batch, loss in enumerate(epoch_losses):
            model.give(loss)
            result = defense.loss(model, x, y, step_at(epoch, batch, batches=len(epoch_losses)), state)
            assert float(result.metrics["clean_loss"]) == pytest.approx(loss)
            two_step.append(bool(result.metrics["two_step"]))
            events.extend(result.events)
    return state, two_step, events


def test_of_soft_labels_the_excess_over_their_least_loss_decides() -> None:
    """With these labels no loss falls below 0.56: a drop by 30 % of the previous mean of 0.6 could never come."""
    y = torch.tensor([[0.75, 0.25]] * 2, dtype=torch.float64)
    least = float(least_cross_entropy(y))
    switched = []
    for excess in (0.02, 0.04):
        model = Chosen().double()
        model.logit.data.fill_(math.log(3.0) + math.sqrt(2.0 * excess / 0.1875))  # to second order
        state = {**NuATHybrid().init_state(model), "epoch": 1, "previous_mean": 0.6 - least}
        result = NuATHybrid(lam=LAM).loss(model, images(2, 1, dtype=torch.float64), y, step_at(1, 0), state)
        assert float(result.metrics["clean_loss"]) == pytest.approx(least + excess, abs=0.01)
        switched.append(result.metrics["two_step"])
    assert switched == [1.0, 0.0]


def test_the_rule() -> None:
    losses = [[1.0, 0.1, 1.9], [0.71, 0.69, 0.5, 0.9], [0.4, 0.5, 0.48, 0.9]]
    state, two_step, events = feed(NuATHybrid(lam=LAM, drop=0.3), losses)
    # the first epoch's mean is 1, the second's 0.7: the thresholds are 0.7 and 0.49
    assert two_step == [False] * 3 + [False, True, True, False] + [True, False, True, False]
    assert state["previous_mean"] == pytest.approx(0.7)
    assert state["two_step_batches"] == 4
    assert state["switches"] == len(events) == 6
    where = [(e["epoch"], e["batch"], e["two_step"]) for e in events]
    assert where == [(1, 1, True), (1, 3, False), (2, 0, True), (2, 1, False), (2, 2, True), (2, 3, False)]
    assert [e["previous_mean"] for e in events] == pytest.approx([1.0] * 2 + [0.7] * 4)
    assert [e["clean_loss"] for e in events] == pytest.approx([0.69, 0.9, 0.4, 0.5, 0.48, 0.9])
    assert json.loads(json.dumps(events)) == [dict(e) for e in events]


def test_a_smaller_drop_switches_more() -> None:
    losses = [[1.0, 1.0], [0.95, 0.8, 0.6, 0.3]]
    counts = [feed(NuATHybrid(drop=drop), losses)[0]["two_step_batches"] for drop in (0.01, 0.1, 0.3, 0.5, 0.9)]
    assert counts == [4, 3, 2, 1, 0]


def test_the_first_epoch_is_single_step_whatever_drops() -> None:
    state, two_step, events = feed(NuATHybrid(drop=0.01), [[3.0, 1.0, 0.1, 0.01]])
    assert not any(two_step)
    assert not events
    assert state["previous_mean"] is None


@pytest.mark.parametrize(
    ("batches", "epochs", "subscript"), [(0, 0.0, 0), (1, 0.1, 1), (10, 1.0, 1), (11, 1.1, 2), (49, 4.9, 5)]
)
def test_the_subscript_of_table_1b_is_rounded_up(batches: int, epochs: float, subscript: int) -> None:
    defense = NuATHybrid()
    state = {**defense.init_state(Chosen()), "two_step_batches": batches, "switches": 3}
    summary = defense.summary(state, 10)
    assert summary == {
        "switches": 3,
        "two_step_batches": batches,
        "two_step_epochs": pytest.approx(epochs),
        "table_1b_subscript": subscript,
    }
    assert json.loads(json.dumps(summary)) == summary


def one_loss(defense, state_changes: dict, step: Step, model: nn.Module) -> float:
    state = {**defense.init_state(model), **state_changes}
    torch.manual_seed(2)
    return float(defense.loss(model, images(5), labels(5, 4), step, state).loss.detach())


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("passes", ["one", "authors"])
def test_equals_nuat_where_nothing_drops(passes: str, batch: int) -> None:
    calm = {"epoch": 1, "previous_mean": 1e-3}
    losses = [
        one_loss(defense, changes, step_at(1, batch), TinyConv().train())
        for defense, changes in ((NuATHybrid(lam=LAM, passes=passes), calm), (NuAT(lam=LAM, passes=passes), {}))
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("passes", ["one", "authors"])
def test_equals_nuat2_where_the_loss_drops(passes: str, batch: int) -> None:
    """Without batch norm and dropout, where the clean pass before the attack leaves no trace."""
    alarm = {"epoch": 1, "previous_mean": 1e3}
    losses = [
        one_loss(defense, changes, step_at(1, batch), TinyConv(batch_norm=False, dropout=0.0).train())
        for defense, changes in (
            (NuATHybrid(lam=LAM, passes=passes), alarm),
            (NuAT2(lam=LAM), {}),
            (NuAT(lam=LAM, passes=passes), {}),
        )
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-4)


@pytest.mark.parametrize("drop", [0.0, 1.0, -0.1, 30.0, float("nan")])
def test_a_drop_out_of_range_is_refused(drop: float) -> None:
    with pytest.raises(InputError, match=r"defense\.drop=.*in \(0, 1\)"):
        NuATHybrid(drop=drop)


@pytest.mark.parametrize(("passes", "scale"), [("one", "batch"), ("authors", "batch"), ("one", "gaussian")])
def test_equals_the_slow_one_switching_in_both_directions(passes: Any, scale: Any) -> None:
    drop, norm = 0.02, GAUSSIAN if scale == "gaussian" else nuclear_norm
    defense = NuATHybrid(lam=RAMP, passes=passes, drop=drop, scale=scale)
    fast, slow = both(defense, 4, variant="hybrid", passes=passes, drop=drop, norm=norm)
    assert_equal(fast, slow)
    assert [bool(m["two_step"]) for m in fast.metrics] == slow.two_step
    assert not any(slow.two_step[:3])  # the first epoch has none to compare with
    assert {(a, b) for a, b in zip(slow.two_step[:-1], slow.two_step[1:], strict=True)} >= {
        (False, True),
        (True, False),
    }
    assert fast.state["two_step_batches"] == sum(slow.two_step)
    switched = [n for n in range(1, 12) if slow.two_step[n] != slow.two_step[n - 1]]
    assert fast.state["switches"] == len(switched)
    assert [(event["epoch"], event["batch"]) for event in fast.events] == [divmod(n, 3) for n in switched]
    for event, n in zip(fast.events, switched, strict=True):
        epoch = n // 3
        before = slow.watched[3 * (epoch - 1) : 3 * epoch]
        assert event["kind"] == "switch"
        assert event["two_step"] == slow.two_step[n]
        assert event["clean_loss"] == pytest.approx(slow.watched[n])
        assert event["previous_mean"] == pytest.approx(sum(before) / 3)


def test_the_defaults_are_the_papers() -> None:
    assert NuATHybrid().lam == Ramp(peak=4.0, until=1.0)
    assert NuATHybrid().alpha is None
    assert NuATHybrid().passes == "one"
