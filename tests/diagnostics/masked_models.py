"""Models that withstand little, some of which hide it; images of four classes, and an examination in seconds."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nuat.attacks import AutoAttack
from nuat.config import ThreatConfig
from nuat.data import ImageSet
from nuat.diagnostics import Examination, Status, examine, strength, substitute

CLASSES, SIZE, N = 4, 8, 40
THREAT = ThreatConfig(eps=0.25, pgd_alpha=0.125)


def bars(n: int = N, *, classes: int = CLASSES) -> ImageSet:
    """Upright bars, at another place for each class, brighter than the rest by 0.4, under noise."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    x = 0.3 + 0.1 * torch.rand(n, 1, SIZE, SIZE, generator=draw)
    for image, label in enumerate(labels.tolist()):
        x[image, :, :, label * SIZE // classes : (label + 1) * SIZE // classes] += 0.4
    return ImageSet((255 * x).round().to(torch.uint8), labels)


class Bars(nn.Module):
    """Mean brightness of each class's bar, times a scale: linear, right on clean images, broken at eps 0.25.

    Margins are about 0.4 and two bars move by eps each, so that at eps 0.1 nearly all images stand.
    """

    def __init__(self, classes: int = CLASSES, scale: float = 10.0) -> None:
        super().__init__()
        weight = torch.zeros(classes, 1, SIZE, SIZE)
        for label in range(classes):
            weight[label, :, :, label * SIZE // classes : (label + 1) * SIZE // classes] = scale
        self.weight = nn.Parameter(weight / weight[0].count_nonzero())

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,nchw->bn", x, self.weight)


def saturated() -> Bars:
    """The honest model's logits times 1,000: its softmax is 1 in float32, and nothing else changes."""
    return Bars(scale=1000 * 10.0)


class Quantised(nn.Module):
    """Rounds pixels to 33 levels: a derivative of 0 everywhere, and nothing else changes."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars((32 * x).round() / 32)
        return logits


class Noisy(nn.Module):
    """Adds noise to its input also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars(x + 0.3 * torch.randn_like(x))
        return logits


class Stepped(nn.Module):
    """A network with an activation whose gradient is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars(scale=60.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(self.bars(x) - 30.0) + 0.0 * self.bars(x).detach()


class Graphless(nn.Module):
    """Computes without a graph, as models in other frameworks do."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars(x)
        return logits


class Unconnected(nn.Module):
    """A graph that leads to the weights, but not to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars(x.detach())
        return logits


class Exploding(nn.Module):
    """A square root at 0: right logits, a gradient that is infinite or NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.bars(x)
        return logits + (0.0 * x).sqrt().sum(dim=(1, 2, 3))[:, None]


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Let the examination take few steps; the attacks and the checks stay what they are."""
    patch.setattr("nuat.diagnostics.examination._STEPS", 10)
    patch.setattr(substitute, "BATCHES", 60)
    configured = AutoAttack._configured

    def few_steps(attack: AutoAttack, *arguments: Any) -> Any:
        official = configured(attack, *arguments)
        official.apgd.n_iter = official.apgd_targeted.n_iter = official.fab.n_iter = 10
        official.apgd.n_restarts = official.fab.n_restarts = 1
        return official

    patch.setattr(AutoAttack, "_configured", few_steps)
    comparisons = tuple(
        dataclasses.replace(c, weaker=tuple(map(_short, c.weaker)), stronger=tuple(map(_short, c.stronger)))
        for c in strength.COMPARISONS
    )
    patch.setattr(strength, "COMPARISONS", comparisons)
    patch.setattr(strength, "ATTACKS", tuple(map(_short, strength.ATTACKS)))


def _short(name: str) -> str:
    """A tenth of the steps."""
    return "square-200" if name == "square" else re.sub(r"(\d+)0(?=\b)", r"\1", name, count=1)


def examined(model: nn.Module, images: ImageSet | None = None, **keywords: object) -> Examination:
    images = bars() if images is None else images
    return examine(model, images, threat=THREAT, **{"n": None, "training": bars(80), **keywords})  # type: ignore[arg-type]


def statuses(found: Examination) -> Mapping[str, Status]:
    return {verdict.check: verdict.status for verdict in found.verdicts}
