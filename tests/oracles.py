"""Yardsticks of the tests: models whose worst case is known, tiny networks, images that hit every border."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nuat.core.threat import Norm, threat
from nuat.defenses import Step

EPS = 8 / 255


class Linear(nn.Module):
    """Logits w_c . x + b_c, whose worst case in an Linf ball and the box is known in closed form."""

    def __init__(self, classes: int = 2, channels: int = 1, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # no weight near zero, so that no direction of a worst case is left open
        draw = torch.rand(classes, channels, size, size, generator=generator) + 0.1
        signs = 2.0 * torch.randint(0, 2, draw.shape, generator=generator) - 1.0
        self.weight = nn.Parameter(draw * signs)
        self.bias = nn.Parameter(0.1 * torch.randn(classes, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.flatten(1).mT + self.bias

    def worst_case(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Two classes: the image of the ball and the box with the least w_y . x - w_other . x, in float64."""
        direction = (self.weight[1 - y] - self.weight[y]).detach().double()
        return torch.where(direction > 0, (x.double() + eps).clamp(max=1.0), (x.double() - eps).clamp(min=0.0))

    def worst_margins(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Return, per image [B] in float64, the least of f_y - f_other over the ball, the box and the other classes.

        Positive: no attack in the ball changes the verdict. Negative: one does.
        """
        low, high = (x.double() - eps).clamp(min=0.0), (x.double() + eps).clamp(max=1.0)
        weight, bias = self.weight.detach().double(), self.bias.detach().double()
        margins = []
        for image in range(len(x)):
            true = int(y[image])
            worst = []
            for other in range(len(weight)):
                if other != true:
                    difference = weight[true] - weight[other]
                    at = torch.where(difference > 0, low[image], high[image])
                    worst.append((difference * at).sum() + bias[true] - bias[other])
            margins.append(torch.stack(worst).min())
        return torch.stack(margins)


class TinyConv(nn.Module):
    """Two small convolutions, smooth, with batch norm and dropout unless told otherwise; any image size from 4."""

    def __init__(
        self, channels: int = 3, classes: int = 4, *, batch_norm: bool = True, dropout: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(4) if batch_norm else nn.Identity()
            self.conv2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
            self.dropout = nn.Dropout(dropout)
            self.linear = nn.Linear(6 * 4, classes)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):  # steep enough for eps = 8/255 to matter
                    nn.init.normal_(module.weight, std=0.6)
                if isinstance(module, nn.BatchNorm2d):  # statistics that a wrong mode shows up in
                    nn.init.normal_(module.running_mean, std=0.3)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.avg_pool2d(F.silu(self.norm1(self.conv1(4.0 * x - 2.0))), 2)
        h = F.adaptive_avg_pool2d(F.silu(self.norm2(self.conv2(h))), 2)
        logits: Tensor = self.linear(self.dropout(4.0 * h.flatten(1)))
        return logits


class Rough(nn.Module):
    """A surface that turns within the ball, so that no two steps of an attack are alike and every weight shows."""

    def __init__(self, channels: int = 3, classes: int = 4, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inward = nn.Parameter(3.0 * torch.randn(channels * size * size, 16, generator=generator))
        self.outward = nn.Parameter(0.5 * torch.randn(16, classes, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x.flatten(1) @ self.inward) @ self.outward


def images(
    batch: int, channels: int = 3, size: int = 4, dtype: torch.dtype = torch.float32, eps: float = EPS, seed: int = 0
) -> Tensor:
    """Return images [B, C, size, size] in [0, 1]; many pixels lie on a border, or closer to one than ``eps``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, channels, size, size, generator=generator, dtype=torch.float64)
    near = 1.5 * eps * torch.rand(x.shape, generator=generator, dtype=torch.float64)
    kind = torch.randint(0, 8, x.shape, generator=generator)
    special = {0: torch.zeros_like(x), 1: torch.ones_like(x), 2: near, 3: 1.0 - near}
    for which, value in special.items():
        x = torch.where(kind == which, value, x)
    return x.clamp(0.0, 1.0).to(dtype)


def labels(batch: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, (batch,), generator=torch.Generator().manual_seed(seed + 1))


def assert_inside(x_adv: Tensor, x: Tensor, eps: float, norm: Norm = "Linf") -> None:
    """Ball and box, to the last bit; differences of narrower dtypes are taken in float64, where they are exact."""
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    order = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
    assert bool((torch.linalg.vector_norm((x_adv.double() - x.double()).flatten(1), order, dim=1) <= eps).all())
    assert bool((x_adv >= 0.0).all())
    assert bool((x_adv <= 1.0).all())


def coin(x: Tensor, alpha: float, generator: torch.Generator) -> Tensor:
    """Return +-alpha per pixel, drawn as the library draws it: one int8 of {0, 1} per pixel, 1 for +alpha."""
    draw = torch.randint(0, 2, x.shape, generator=generator, dtype=torch.int8)
    return alpha * (2 * draw.to(x.dtype) - 1)


def step_at(
    epoch: int = 1,
    batch: int = 1,
    *,
    eps: float = EPS,
    norm: Norm = "Linf",
    seed: int | None = 0,
    epochs: int = 4,
    batches: int = 3,
) -> Step:
    """Return a defense's step; the default is a batch on which NuAT's attack uses the nuclear norm."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    ball = threat(norm, eps)
    return Step(threat=ball, epoch=epoch, epochs=epochs, batch=batch, batches=batches, generator=generator)


def shorten_autoattack(patch: pytest.MonkeyPatch) -> None:
    """Give the official AutoAttack five steps instead of 100 and 20 queries instead of 5,000, however it is made."""
    package = pytest.importorskip("pyautoattack.autoattack")
    for attack in ("APGDAttack", "APGDAttack_targeted", "FABAttack_PT"):
        original = getattr(package, attack)
        patch.setattr(package, attack, lambda *a, make=original, **k: make(*a, **{**k, "n_iter": 5}))
    search = package.SquareAttack.perturb

    def short(self: Any, *arguments: Any, **keywords: Any) -> Any:
        self.n_queries = 20
        return search(self, *arguments, **keywords)

    patch.setattr(package.SquareAttack, "perturb", short)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Weights and buffers are what they were, to the last bit."""
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
