"""Gradients in the image, of models that no attack can climb."""

import pytest
import torch
from oracles import Linear
from torch import Tensor, nn

from nuat.attacks import FGSM, GAMAPGD, PGD
from nuat.attacks.base import input_gradient


class Cut(nn.Module):
    """A model whose graph leads to its weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(4, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.detach())
        return logits


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 4


@pytest.mark.parametrize("grad", [True, False])
def test_without_a_graph_the_gradient_is_0_and_attacks_return_their_start(grad: bool) -> None:
    model = Cut().requires_grad_(grad)
    x, y = images()
    assert torch.equal(input_gradient(lambda z: model(z).sum(), x), torch.zeros_like(x))
    assert torch.equal(FGSM(model, eps=0.1)(x, y), x)
    assert torch.equal(PGD(model, eps=0.1, alpha=0.05, steps=3, random_start=False)(x, y), x)
    started = GAMAPGD(model, eps=0.1, steps=3, generator=torch.Generator().manual_seed(0))(x, y)
    torch.testing.assert_close((started - x).abs().clamp(max=0.1), (started - x).abs())
