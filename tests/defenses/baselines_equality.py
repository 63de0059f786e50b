"""The fast baselines and their slow twins over nine batches in float64."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CLASSES
from oracles import TinyConv, images, labels
from reference import baselines
from torch import Tensor, nn

from nuat.core.losses import soft_labels
from nuat.core.schedules import Jumps, Ramp
from nuat.core.threat import Linf
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    LIET,
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

EPS = baselines.EPS
LR, MOMENTUM, WEIGHT_DECAY = {True: 0.05, False: 0.0005}, 0.9, 0.01  # with batch norm, and without
EPOCHS = 3
SIZES = (6, 6, 5)  # the last batch of an epoch is short
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
    "fbf-mnist": (FBF(clamped_start=False), baselines.fbf, {"step_size": 1.25, "clamped": False}),
    "n-fgsm": (NFGSM(), baselines.n_fgsm, {"noise": 2.0}),
    "n-fgsm-less": (NFGSM(noise=0.5), baselines.n_fgsm, {"noise": 0.5}),
    "r-mgm": (RMGM(weight=0.1), baselines.r_mgm, {"weight": 0.1}),
    "gat": (GAT(weight=JUMPS), baselines.gat, {"weights": [3.0, 12.0, 48.0], "alpha": EPS / 2}),
    "gat-every": (
        GAT(weight=JUMPS, regularised_attack="every"),
        baselines.gat,
        {"weights": [3.0, 12.0, 48.0], "alpha": EPS / 2, "guided": "every"},
    ),
    "gat-alpha": (GAT(weight=JUMPS, alpha=0.08), baselines.gat, {"weights": [3.0, 12.0, 48.0], "alpha": 0.08}),
    "pgd-at": (PGDAT(**PGD), baselines.pgd_at, PGD),
    "trades": (TRADES(**KL), baselines.trades, KL),
    "awp": (AWP(gamma=0.05, **PGD), baselines.awp, {"gamma": 0.05, "warm_epochs": 0, **PGD}),
    "awp-warmup": (AWP(gamma=0.05, warmup=0.5, **PGD), baselines.awp, {"gamma": 0.05, "warm_epochs": 2, **PGD}),
    "trades-awp": (TRADESAWP(gamma=0.05, **KL), baselines.trades_awp, {"gamma": 0.05, "warm_epochs": 0, **KL}),
    "free-at": (FreeAT(replays=3), baselines.free_at, {"replays": 3, "largest": max(SIZES)}),
    "fgsm-pgi": (FGSMPGI(weight=5.0), baselines.fgsm_pgi, {"weight": 5.0}),
    "liet": (
        LIET(lam=Ramp(peak=20.0), every=2, smoothing=0.6),
        baselines.liet,
        {"weights": [0.0, 20 / 3, 40 / 3], "every": 2, "least": 0.1, "largest": 0.5, "smoothing": 0.6},
    ),
    "liet-large-eps": (
        LIET(lam=Ramp(peak=20.0), replaced=(0.0, 1.0), projected=False),
        baselines.liet,
        {
            "weights": [0.0, 20 / 3, 40 / 3],
            "every": 10,
            "least": 0.0,
            "largest": 1.0,
            "smoothing": 0.0,
            "large_eps": True,
        },
    ),
}
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
                if defense.smoothing > 0:
                    y = soft_labels(y, CLASSES, defense.smoothing, x.dtype)
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
        schedule=itertools.repeat((LR[norm], MOMENTUM)),
        weight_decay=WEIGHT_DECAY,
        **settings,
    )
    return fast, slow


def assert_same_images(found: list[list[Tensor]], expected: list[list[Tensor]], what: str) -> None:
    assert [len(passes) for passes in found] == [len(passes) for passes in expected], what
    for n, (here, there) in enumerate(zip(found, expected, strict=True)):
        for k, (a, b) in enumerate(zip(here, there, strict=True)):
            torch.testing.assert_close(a, b, **CLOSE, msg=lambda text, at=(n, k): f"{what} of step {at}: {text}")


def assert_equals_the_slow_one(name: str, norm: bool) -> None:
    """The fast defense and its slow twin take the same attacks, losses, weights and states over nine batches."""
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
