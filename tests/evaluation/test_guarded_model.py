"""The guards around a stranger's model."""

import pytest
import torch
from oracles import Linear, TinyConv
from torch import Tensor, nn

from nuat.attacks import PGD
from nuat.attacks.base import input_gradient
from nuat.errors import NonFiniteError
from nuat.evaluation.guarded_model import ClimbableModel


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


def test_a_climbable_model_is_the_model() -> None:
    model = TinyConv(1, 4).eval()
    x, y = images()
    climbable = ClimbableModel(model)
    with torch.no_grad():
        assert torch.equal(climbable(x), model(x))
    assert torch.equal(climbable(x.clone().requires_grad_()), model(x))
    for seed in range(2):
        made = [
            PGD(m, eps=0.1, alpha=0.05, steps=3, generator=torch.Generator().manual_seed(seed))(x, y)
            for m in (model, climbable)
        ]
        assert torch.equal(*made)


def test_only_a_model_without_a_gradient_pays_for_one_of_zeros() -> None:
    x, _ = images()
    for model, tied in ((TinyConv(1, 4).eval(), False), (Cut(), True)):
        climbable = ClimbableModel(model)
        for _ in range(2):
            logits = climbable(x.clone().requires_grad_())
            assert logits.grad_fn is not None
            assert ("_Tied" in logits.grad_fn.name()) == tied


def test_a_climbable_model_has_a_finite_gradient() -> None:
    x, _ = images()

    class Exploding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] + (0.0 * x).sqrt().sum(dim=(1, 2, 3))[:, None]

    with pytest.raises(NonFiniteError, match="infinite or NaN"):
        input_gradient(lambda z: Exploding()(z).sum(), x)
    for model in (Exploding(), Cut()):
        z = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ClimbableModel(model)(z).sum(), z)
        assert torch.equal(gradient, torch.zeros_like(x))
