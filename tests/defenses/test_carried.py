"""Perturbations that are carried from batch to batch, where the images change."""

import pytest
import torch
from oracles import TinyConv, images, labels
from torch import nn

from nuat.core.threat import Linf
from nuat.defenses import FGSMPGI, Defense, FreeAT, Step

EPS = 0.1


class AnySize(nn.Module):
    """Logits of images of any size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).mean((2, 3))


def step() -> Step:
    generator = torch.Generator().manual_seed(0)
    return Step(threat=Linf(EPS), epoch=0, epochs=2, batch=0, batches=2, generator=generator, index=torch.arange(6))


@pytest.mark.parametrize(("defense", "name"), [(FreeAT(replays=2), "delta"), (FGSMPGI(), "prior")])
def test_they_begin_anew_where_images_become_larger(defense: Defense, name: str) -> None:
    model = AnySize().train()
    state = defense.init_state(model)
    for side in (6, 6, 9):
        x, y = images(6, 3, side), labels(6, 4, 1)
        defense.loss(model, x, y, step(), state).loss.backward()
        assert state[name].shape == x.shape
        assert 0.0 < float(state[name].abs().max()) <= EPS * 1.0001
    fresh = defense.init_state(model)
    defense.loss(model, images(6, 3, 9), labels(6, 4, 1), step(), fresh).loss.backward()
    assert torch.equal(fresh[name], state[name])


def test_a_short_batch_uses_the_first_rows_and_keeps_the_others() -> None:
    defense, model = FreeAT(replays=2), TinyConv(classes=4, dropout=0.0).train()
    state = defense.init_state(model)
    defense.loss(model, images(6, 3, 6), labels(6, 4, 1), step(), state).loss.backward()
    before = state["delta"].clone()
    defense.loss(model, images(2, 3, 6, seed=3), labels(2, 4, 2), step(), state).loss.backward()
    assert torch.equal(state["delta"][2:], before[2:])
    assert not torch.equal(state["delta"][:2], before[:2])
