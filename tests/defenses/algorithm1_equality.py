"""The fast NuAT, NuAT2 and NuAT-H and the slow Algorithm 1 over several epochs in float64."""

import copy
import itertools
from typing import Any

import pytest
import torch
from cases import CLASSES
from oracles import TinyConv, images, labels
from reference import algorithm1
from torch import Tensor, nn

from nuat.core import averaging
from nuat.core.gaussian_norms import nuclear_per_image
from nuat.core.schedules import Ramp
from nuat.core.threat import Linf
from nuat.defenses import Defense, Step

EPS = 0.1
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 0.01
PEAK, UNTIL = 6.0, 0.8
EVALUATION_TAU = 0.9
SIZES = (6, 6, 5)  # the last batch of an epoch is short
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
                self.attacks.append(next(z for z in reversed(seen) if not torch.equal(z, x)))
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
        schedule=itertools.repeat((LR, MOMENTUM)),
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


def gaussian(norm: Any, per_image: Any) -> Any:
    """The norm as a multiple of that of a Gaussian matrix, times the multiple at 64 x 10."""
    return lambda matrix: norm(matrix) * per_image(64, 10) / per_image(*matrix.shape)


GAUSSIAN = gaussian(algorithm1.nuclear_norm, nuclear_per_image)
"""The slow nuclear norm of ``scale="gaussian"``."""
