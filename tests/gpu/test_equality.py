"""On a GPU each defense has the loss and the gradients that it has on the CPU, and each attack and norm its values."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import CLASSES, DEFENSES
from oracles import TinyConv, images, labels, step_at
from torch import Tensor, nn

from nuat.core import random
from nuat.core.nuclear import _by_eigh, _by_iteration, nuclear_norm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="it compares a GPU with the CPU, and there is none here"),
]
EPS = 8 / 255


@pytest.fixture(autouse=True)
def _draws_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw on the CPU whatever the device, as generators of different devices draw different numbers."""

    def moved(draw: Any) -> Any:
        return lambda *arguments, device=None, **settings: draw(*arguments, **settings).to(device or "cpu")

    drawing = {name: moved(getattr(torch, name)) for name in ("rand", "randn", "randint")}
    monkeypatch.setattr(random, "torch", SimpleNamespace(**{**vars(torch), **drawing}))


def loss_and_gradients(name: str, model: nn.Module, batch: int, device: str) -> tuple[Tensor, list[Tensor]]:
    defense = DEFENSES[name].defense
    model = copy.deepcopy(model).to(device)
    state = {**defense.init_state(model), **DEFENSES[name].state}
    x, y = images(6, 3, 4, torch.float64, EPS).to(device), labels(6, CLASSES).to(device)
    loss = defense.loss(model, x, y, step_at(1, batch, eps=EPS), state).loss
    return loss.detach().cpu(), [g.cpu() for g in torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("name", DEFENSES)
def test_the_loss_and_its_gradients_are_those_of_the_cpu(name: str, batch: int) -> None:
    model = TinyConv(classes=CLASSES, dropout=0.0).double().train()
    (loss, gradients), (theirs, others) = (loss_and_gradients(name, model, batch, d) for d in ("cuda", "cpu"))
    assert torch.allclose(loss, theirs, rtol=1e-6)
    for ours, other in zip(gradients, others, strict=True):
        assert torch.allclose(ours, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(128, 10), (256, 1000), (10, 10)])
@pytest.mark.parametrize("method", [_by_eigh, _by_iteration])
def test_the_nuclear_norm_by_each_method(method: Any, shape: tuple[int, int]) -> None:
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    value, polar = method(a.cuda())
    u, s, vh = torch.linalg.svd(a.double(), full_matrices=False)
    assert value.device.type == polar.device.type == "cuda"
    assert float(value) == pytest.approx(float(s.sum()), rel=1e-5)
    assert torch.allclose(polar.cpu().double(), u @ vh, atol=1e-4)
    assert float(nuclear_norm(a.cuda())) == pytest.approx(float(s.sum()), rel=1e-5)
