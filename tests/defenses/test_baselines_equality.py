"""The fast baselines against the slow ones over nine batches in float64: the same attacks, losses, weights, states."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import TinyConv, images, labels
from reference import baselines
from torch import Tensor, nn

from nuat.core.schedules import Jumps
from nuat.core.threat import Linf
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
    Defense,
    FreeAT,
    Step,
)
from nuat.defenses.free_at import carry

EPS = baselines.EPS
LR, MOMENTUM, WEIGHT_DECAY = {True: 0.05, False: 0.0005}, 0.9, 0.01  # with batch norm, and without
EPOCHS = 3
SIZES = (6, 6, 5)  # the last batch of an epoch is short
CLASSES = 4
CLOSE = {"rtol": 1e-9, "atol": 1e-12}

PGD = {"steps": 3, "step_size": 0.4}
KL = {"beta": 4.0, **PGD}
JUMPS = Jumps(start=3.0, at=(0.3, 0.6), factor=4.0)  # before epochs 1 and 2

# the defense, its slow twin, and the twin's settings
CASES: dict[str, tuple[Defense, Callable[..., None], dict[str, Any]]] = {
    "fgsm-at": (FGSMAT(), baselines.fgsm_at, {}),
    "rfgsm-at": (RFGSMAT(), baselines.rfgsm_at, {}),
    "fbf": (FBF(), baselines.fbf, {"step_size": 1.25}),
    "fbf-short": (FBF(step_size=0.5), baselines.fbf, {"step_size": 0.5}),
    "n-fgsm": (NFGSM(), baselines.n_fgsm, {"noise": 2.0}),
    "n-fgsm-less": (NFGSM(noise=0.5), baselines.n_fgsm, {"noise": 0.5}),
    "r-mgm": (RMGM(weight=0.1), baselines.r_mgm, {"weight": 0.1}),
    "gat": (GAT(weight=JUMPS), baselines.gat, {"weights": [3.0, 12.0, 48.0], "alpha": EPS / 2}),
    "gat-alpha": (GAT(weight=JUMPS, alpha=0.08), baselines.gat, {"weights": [3.0, 12.0, 48.0], "alpha": 0.08}),
    "pgd-at": (PGDAT(**PGD), baselines.pgd_at, PGD),
    "trades": (TRADES(**KL), baselines.trades, KL),
    "awp": (AWP(gamma=0.05, **PGD), baselines.awp, {"gamma": 0.05, "warm_epochs": 0, **PGD}),
    "awp-warmup": (AWP(gamma=0.05, warmup=0.5, **PGD), baselines.awp, {"gamma": 0.05, "warm_epochs": 2, **PGD}),
    "trades-awp": (TRADESAWP(gamma=0.05, **KL), baselines.trades_awp, {"gamma": 0.05, "warm_epochs": 0, **KL}),
    "free-at": (FreeAT(replays=3), baselines.free_at, {"replays": 3, "largest": max(SIZES)}),
    "fgsm-pgi": (FGSMPGI(weight=5.0), baselines.fgsm_pgi, {"weight": 5.0}),
}
AWPS = ("awp", "awp-warmup", "trades-awp")
EVERY = pytest.mark.parametrize("name", CASES)
NORMS = pytest.mark.parametrize("norm", [True, False], ids=["batch-norm", "plain"])


def network(norm: bool) -> TinyConv:
    model = TinyConv(classes=CLASSES, batch_norm=norm, dropout=0.1 if norm else 0.0).double()
    if not norm:  # nothing else keeps the logits from saturating the softmax, where signs are those of rounding
        model.linear.weight.data *= 0.1
    return model


def make_epochs() -> list[list[tuple[Tensor, Tensor]]]:
    return [
        [(images(m, 3, 6, torch.float64, EPS, 10 * e + b), labels(m, CLASSES, 10 * e + b)) for b, m in enumerate(SIZES)]
        for e in range(EPOCHS)
    ]


class Fast:
    """The training loop in small: what the library's loop does with a defense, and plain SGD."""

    def __init__(self, defense: Defense, norm: bool) -> None:
        model = network(norm)
        self.losses: list[float] = []
        self.metrics: list[dict[str, Any]] = []
        self.trained: list[list[Tensor]] = []
        self.ascents: list[list[Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []
        self.carries: list[Tensor | None] = []
        self.parameters = dict(model.named_parameters())
        optimizer = torch.optim.SGD(model.parameters(), lr=LR[norm], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        generator = torch.Generator().manual_seed(1)
        state = defense.init_state(model)
        model.register_forward_pre_hook(self._look)
        model.train()
        for e, batches in enumerate(make_epochs()):
            for b, (x, y) in enumerate(batches):
                step = Step(threat=Linf(EPS), epoch=e, epochs=EPOCHS, batch=b, batches=len(SIZES), generator=generator)
                for _ in range(defense.updates_per_batch):
                    self._step(defense, model, x, y, step, state, optimizer)

    def _step(
        self,
        defense: Defense,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        step: Step,
        state: dict[str, Any],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.trained.append([])
        self.ascents.append([])
        self.before = {name: (p.detach().clone(), p._version) for name, p in self.parameters.items()}
        optimizer.zero_grad()
        result = defense.loss(model, x, y, step, state)
        self._assert_weights_untouched()
        result.loss.backward()
        self._assert_weights_untouched()
        optimizer.step()
        defense.after_step(model, step, state)
        self.losses.append(float(result.loss.detach()))
        self.metrics.append({name: float(value) for name, value in result.metrics.items()})
        self.weights.append({name: tensor.detach().clone() for name, tensor in model.state_dict().items()})
        carried = next((value for value in state.values() if isinstance(value, Tensor)), None)
        self.carries.append(None if carried is None else carried.clone())

    def _look(self, model: nn.Module, inputs: tuple[Tensor]) -> None:
        self._assert_weights_untouched()
        if model.training:
            self.trained[-1].append(inputs[0].detach().clone())
        elif inputs[0].requires_grad:
            self.ascents[-1].append(inputs[0].detach().clone())

    def _assert_weights_untouched(self) -> None:
        """Not even changed and restored, which a version would tell."""
        for name, (value, version) in self.before.items():
            assert torch.equal(self.parameters[name], value), name
            assert self.parameters[name]._version == version, name


def both(name: str, norm: bool = True) -> tuple[Fast, baselines.Run]:
    defense, method, settings = CASES[name]
    torch.manual_seed(7)  # dropout
    fast = Fast(defense, norm)
    torch.manual_seed(7)
    slow = baselines.train(
        network(norm),
        make_epochs(),
        method,
        generator=torch.Generator().manual_seed(1),
        lr=LR[norm],
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        **settings,
    )
    return fast, slow


def assert_same_images(found: list[list[Tensor]], expected: list[list[Tensor]], what: str) -> None:
    assert [len(passes) for passes in found] == [len(passes) for passes in expected], what
    for n, (here, there) in enumerate(zip(found, expected, strict=True)):
        for k, (a, b) in enumerate(zip(here, there, strict=True)):
            torch.testing.assert_close(a, b, **CLOSE, msg=lambda text, at=(n, k): f"{what} of step {at}: {text}")


@NORMS
@EVERY
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    fast, slow = both(name, norm)
    assert len(fast.losses) == 9 * CASES[name][0].updates_per_batch
    assert_same_images(fast.ascents, slow.ascents, "ascent")
    assert_same_images(fast.trained, slow.trained, "training")
    assert fast.losses == pytest.approx(slow.losses, rel=1e-9)
    for n, (weights, expected) in enumerate(zip(fast.weights, slow.weights, strict=True)):
        for key, tensor in expected.items():
            torch.testing.assert_close(weights[key], tensor, **CLOSE, msg=lambda t, at=(n, key): f"{at}: {t}")
    for carried, expected in zip(fast.carries, slow.carries, strict=True):
        assert (carried is None) == (expected is None)
        if carried is not None:
            torch.testing.assert_close(carried, expected, **CLOSE)


def test_the_defenses_differ() -> None:
    """That the equalities above are not those of things that are all the same."""
    last = {name: Fast(CASES[name][0], False).losses[-1] for name in CASES}
    assert len({round(loss, 6) for loss in last.values()}) == len(last)


@pytest.mark.parametrize(("name", "plain"), [("awp", "pgd-at"), ("trades-awp", "trades")])
def test_awp_updates_the_running_statistics_as_often_as_the_plain_loss(name: str, plain: str) -> None:
    counts = [int(Fast(CASES[which][0], True).weights[-1]["norm1.num_batches_tracked"]) for which in (name, plain)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("epochs", [30, 100, 110, 200])
def test_awps_warmup_ends_with_a_whole_epoch(epochs: int) -> None:
    model = network(False).train()
    x, y = make_epochs()[0][0]
    passes: list[int] = []
    model.register_forward_hook(lambda m, *_: passes.append(1) if m.training else None)
    for warm in {0, 1, 7, epochs // 10, 11 * epochs // 20, 14 * epochs // 25, epochs - 1}:
        found = []
        for e in (warm - 1, warm):
            passes.clear()
            step = Step(threat=Linf(EPS), epoch=e, epochs=epochs, batch=0, batches=1)
            AWP(steps=1, warmup=warm / epochs).loss(model, x, y, step, {})
            found.append(len(passes))
        assert found == [1, 2] if warm else found[1] == 2, warm


@pytest.mark.parametrize("name", AWPS)
def test_awp_raises_the_loss_it_descends(name: str) -> None:
    """The first loss at w + v is above that at w, by about gamma times the gradient's size; without it, it is equal."""
    defense = CASES[name][0]
    plain = TRADES(**KL) if isinstance(defense, TRADES) else PGDAT(**PGD)
    above = Fast(defense, False).losses[0] - Fast(plain, False).losses[0]
    assert above == 0.0 if name == "awp-warmup" else above > 0.01


def test_gat_is_guided_on_odd_batches_and_its_weight_jumps() -> None:
    fast, _ = both("gat", norm=False)
    assert [m["weight"] for m in fast.metrics] == [3.0] * 3 + [12.0] * 3 + [48.0] * 3
    # with more weight the first three attacks differ in the odd batch alone; the weights of the model are kept
    for b in range(3):
        attacks = []
        for weight in (0.0, 1e3):
            model, seen = network(False).train(), []
            model.register_forward_pre_hook(lambda m, inputs, seen=seen: seen.append(inputs[0].detach().clone()))
            x, y = make_epochs()[0][b]
            step = Step(
                threat=Linf(EPS), epoch=0, epochs=3, batch=b, batches=3, generator=torch.Generator().manual_seed(0)
            )
            GAT(weight=Jumps(start=weight)).loss(model, x, y, step, {})
            attacks.append(seen[-1])
        assert torch.equal(*attacks) == (b % 2 == 0), b


@pytest.mark.parametrize(("name", "key"), [("free-at", "delta"), ("fgsm-pgi", "prior")])
def test_nothing_is_carried_before_the_first_batch(name: str, key: str) -> None:
    assert CASES[name][0].init_state(network(True)) == {key: None}
    first = Fast(CASES[name][0], True).carries[0]
    assert first is not None
    assert first.shape == (6, 3, 6, 6)
    assert 0.9 * EPS < float(first.abs().max()) <= EPS


def test_free_at_carries_over_short_batches() -> None:
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
def test_free_ats_perturbation_leaves_the_border_of_the_ball_again(eps: float, dtype: torch.dtype) -> None:
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


def test_trades_starts_near_the_image_and_stays_in_the_ball() -> None:
    fast, _ = both("trades")
    for (x, _), ascents in zip([batch for epoch in make_epochs() for batch in epoch], fast.ascents, strict=True):
        assert len(ascents) == 3
        assert 0 < float((ascents[0] - x).abs().max()) < 0.006
        assert float((ascents[2] - x).abs().max()) <= 0.8 * EPS + 0.006


def test_n_fgsm_leaves_the_ball() -> None:
    fast, _ = both("n-fgsm")
    x = make_epochs()[0][0][0]
    reach = float((fast.trained[0][0] - x).abs().max())
    assert 2 * EPS < reach <= 3 * EPS + 1e-12
