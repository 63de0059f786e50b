"""The picture of adversarial examples says what each image is, and what the model takes it for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from torch import Tensor, nn

from nuat.config import ThreatConfig
from nuat.data import ImageSet
from nuat.figures import adversarial_examples, style

NAMES = ("cat", "dog", "an uncommonly long name")


class Never(nn.Module):
    """Predicts class 1 for every image, with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 9.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + 0.01 * x.mean(dim=(1, 2, 3))[:, None]


@pytest.mark.slow
def test_the_true_class_stands_above_and_the_prediction_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    save = style.save
    monkeypatch.setattr(style, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    chosen = ImageSet(torch.full((3, 1, 6, 6), 120, dtype=torch.uint8), torch.arange(3))
    path = tmp_path / "examples.png"
    adversarial_examples.save(Never(), chosen, NAMES, ThreatConfig(eps=0.1, pgd_alpha=0.05), path, count=3)
    assert path.read_bytes().startswith(b"\x89PNG")
    axes = kept[0].axes
    assert {axis.get_title() for axis in axes[:3]} == {"cat", "dog", "an uncommon\u2026"}
    for row in (axes[:3], axes[6:]):
        assert [axis.get_xlabel() for axis in row] == ["dog"] * 3
        for axis, truth in zip(row, axes[:3], strict=True):
            right = truth.get_title() == "dog"
            assert to_hex(axis.xaxis.label.get_color()) == (style.GREEN if right else style.VERMILION).lower()
    assert [axis.get_xlabel() for axis in axes[3:6]] == [""] * 3
