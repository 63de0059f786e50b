"""The fast defenses against the slow Algorithm 1, over several epochs in float64: the same numbers, all of them."""

import copy
from typing import Any

import pytest
import torch
from oracles import TinyConv, images, labels
from reference import algorithm1
from torch import Tensor, nn

from nuat.core import averaging
from nuat.core.schedules import Ramp
from nuat.core.threat import Linf
from nuat.defenses import Defense, NuAT, NuAT2, NuATHybrid, Step

EPS = 0.1
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 0.01
PEAK, UNTIL = 6.0, 0.8
EVALUATION_TAU = 0.9
SIZES = (6, 6, 5)  # the last batch of an epoch is short
CLASSES = 4
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def make_epochs(count: int) -> list[list[tuple[Tensor, Tensor]]]:
    return [
        [(images(m, 3, 6, torch.float64, EPS, 10 * e + b), labels(m, CLASSES, 10 * e + b)) for b, m in enumerate(SIZES)]
        for e in range(count)
    ]


class Fast:
    """The training loop in small: what the library's loop does with a defense, plain SGD, and an average."""

    def __init__(self, defense: Defense, model: nn.Module, epochs: list[list[tuple[Tensor, Tensor]]]) -> None:
        self.model, self.losses, self.attacks = model, [], []
        self.metrics: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.state = defense.init_state(model)
        self.average = averaging.start(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        generator = torch.Generator().manual_seed(1)
        seen: list[Tensor] = []
        handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        model.train()
        for e, batches in enumerate(epochs):
            for b, (x, y) in enumerate(batches):
                step = Step(
                    threat=Linf(EPS),
                    epoch=e,
                    epochs=len(epochs),
                    batch=b,
                    batches=len(batches),
                    generator=generator,
                )
                result = defense.loss(model, x, y, step, self.state)
                self.attacks.append(seen[-1])  # the last pass of a step is on the attacked images
                optimizer.zero_grad()
                result.loss.backward()
                optimizer.step()
                defense.after_step(model, step, self.state)
                averaging.update(self.average, model, EVALUATION_TAU)
                self.losses.append(float(result.loss.detach()))
                self.metrics.append(dict(result.metrics))
                self.events.extend(dict(event) for event in result.events)
        handle.remove()


def both(
    defense: Defense, epochs: int = 3, *, model: nn.Module | None = None, **settings: Any
) -> tuple[Fast, algorithm1.Record]:
    data = make_epochs(epochs)
    model = TinyConv(classes=CLASSES).double() if model is None else model
    twin = copy.deepcopy(model)
    torch.manual_seed(7)  # dropout
    fast = Fast(defense, model, data)
    torch.manual_seed(7)
    slow = algorithm1.train(
        twin,
        data,
        eps=EPS,
        alpha=EPS / 2 if defense.alpha is None else defense.alpha,
        lam_peak=PEAK,
        lam_until=UNTIL,
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        generator=torch.Generator().manual_seed(1),
        evaluation_tau=EVALUATION_TAU,
        **settings,
    )
    return fast, slow


def assert_equal(fast: Fast, slow: algorithm1.Record) -> None:
    for step, (attack, expected) in enumerate(zip(fast.attacks, slow.attacks, strict=True)):
        torch.testing.assert_close(attack, expected, **CLOSE, msg=lambda text, n=step: f"attack of step {n}: {text}")
    assert fast.losses == pytest.approx(slow.losses, rel=1e-9)
    assert [float(m["clean_loss"]) for m in fast.metrics] == pytest.approx(slow.clean_losses, rel=1e-9)
    for name, tensor in slow.model.state_dict().items():
        torch.testing.assert_close(fast.model.state_dict()[name], tensor, **CLOSE)
    for name, tensor in slow.evaluation_average.items():
        torch.testing.assert_close(fast.average[name], tensor, **CLOSE)


RAMP = Ramp(peak=PEAK, until=UNTIL)


@pytest.mark.parametrize("alpha", [None, 0.08])
@pytest.mark.parametrize("passes", ["one", "authors"])
def test_nuat(passes: str, alpha: float | None) -> None:
    fast, slow = both(NuAT(lam=RAMP, passes=passes, alpha=alpha), variant="nuat", passes=passes)
    assert_equal(fast, slow)
    assert [m["lam"] for m in fast.metrics] == pytest.approx([0] * 3 + [2.5] * 3 + [5] * 3)


@pytest.mark.parametrize("alpha", [None, 0.08])
def test_nuat2(alpha: float | None) -> None:
    assert_equal(*both(NuAT2(lam=RAMP, alpha=alpha), variant="nuat2"))


def test_nuat2_with_the_averages_first_step() -> None:
    fast, slow = both(NuAT2(lam=RAMP, attack_tau=0.99), variant="nuat2", attack_tau=0.99)
    assert_equal(fast, slow)
    for name, tensor in slow.attack_average.items():
        torch.testing.assert_close(fast.state["attack_average"][name], tensor, **CLOSE)
    # the average matters: the first epoch's attacks are those of the live weights, a later one's are not
    _, live = both(NuAT2(lam=RAMP), variant="nuat2")
    different = [not torch.equal(a, b) for a, b in zip(slow.attacks, live.attacks, strict=True)]
    assert not any(different[:3])
    assert any(different[3:])


@pytest.mark.parametrize("passes", ["one", "authors"])
def test_hybrid_switching_in_both_directions(passes: str) -> None:
    drop = 0.02
    fast, slow = both(NuATHybrid(lam=RAMP, passes=passes, drop=drop), 4, variant="hybrid", passes=passes, drop=drop)
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


@pytest.mark.parametrize("passes", ["one", "authors"])
def test_the_variants_differ(passes: str) -> None:
    """That the equalities above are not those of things that are all the same."""
    data = make_epochs(3)
    runs = {
        "nuat": Fast(NuAT(lam=RAMP, passes=passes), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "nuat2": Fast(NuAT2(lam=RAMP), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "wa": Fast(NuAT2(lam=RAMP, attack_tau=0.99), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "no lam": Fast(NuAT(lam=Ramp(peak=0.0)), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
    }
    last = {name: run.losses[-1] for name, run in runs.items()}
    assert len({round(loss, 6) for loss in last.values()}) == len(last)
