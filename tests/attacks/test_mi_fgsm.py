"""MI-FGSM: the closed form on a linear model, and a slow version written from Dong et al. 2018, Algorithm 1."""

import pytest
import torch
from oracles import EPS, Linear, Rough, TinyConv, images, labels
from torch import Tensor, nn

from nuat.attacks import MIFGSM, PGD
from nuat.errors import InputError


def slow_mi_fgsm(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int, mu: float
) -> list[Tensor]:
    """Image by image; returns the images of each step."""
    path = [x]
    g = [torch.zeros_like(x[0]) for _ in x]
    for _ in range(steps):
        z = path[-1].clone().requires_grad_()
        nxt = []
        for i in range(len(x)):
            loss = nn.functional.cross_entropy(model(z[i : i + 1]), y[i : i + 1])
            (gradient,) = torch.autograd.grad(loss, z)
            g[i] = mu * g[i] + gradient[i] / float(gradient[i].abs().sum())
            nxt.append(z[i].detach() + alpha * g[i].sign())
        path.append((x + (torch.stack(nxt) - x).clamp(-eps, eps)).clamp(0.0, 1.0))
    return path


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_against_a_slow_version(steps: int, mu: float) -> None:
    model = Rough().double()
    x, y = images(4, dtype=torch.float64), labels(4, 4)
    path = slow_mi_fgsm(model, x, y, EPS, EPS / 3, steps, mu)
    ours = MIFGSM(model, eps=EPS, alpha=EPS / 3, steps=steps, mu=mu)(x, y)
    torch.testing.assert_close(ours, path[-1], rtol=0, atol=1e-12)


def test_the_default_step_is_eps_over_the_steps() -> None:
    model = Rough().double()
    x, y = images(4, dtype=torch.float64), labels(4, 4)
    named = MIFGSM(model, eps=EPS, alpha=EPS / 4, steps=4, mu=1.0)(x, y)
    assert torch.equal(MIFGSM(model, eps=EPS, steps=4)(x, y), named)


def test_momentum_has_an_effect_and_none_is_i_fgsm() -> None:
    model = Rough().double()
    x, y = images(8, dtype=torch.float64), labels(8, 4)
    i_fgsm = PGD(model, eps=EPS, alpha=EPS / 3, steps=6, random_start=False)(x, y)
    assert torch.equal(MIFGSM(model, eps=EPS, alpha=EPS / 3, steps=6, mu=0.0)(x, y), i_fgsm)
    assert not torch.equal(MIFGSM(model, eps=EPS, alpha=EPS / 3, steps=6)(x, y), i_fgsm)


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_the_closed_form_optimum_on_a_linear_model(eps: float) -> None:
    model = Linear().double()
    x, y = images(6, 1, dtype=torch.float64, eps=eps), labels(6, 2)
    torch.testing.assert_close(MIFGSM(model, eps=eps)(x, y), model.worst_case(x, y, eps), rtol=0, atol=1e-12)


class Flat(nn.Module):
    """Constant logits for dark images: a gradient of exactly 0."""

    def forward(self, x: Tensor) -> Tensor:
        height = (x.flatten(1).amax(dim=1, keepdim=True) - 0.5).relu()
        return torch.cat([height, -height], dim=1)


def test_a_gradient_of_zero_adds_nothing() -> None:
    x = torch.cat([torch.full((1, 1, 4, 4), 0.1), 0.2 + 0.5 * images(1, 1)])
    x_adv = MIFGSM(Flat(), eps=EPS, steps=3)(x, torch.tensor([0, 0]))
    assert torch.equal(x_adv[0], x[0])
    assert not torch.equal(x_adv[1], x[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0: expected at least 1"),
        ({"alpha": 2}, r"alpha=2: .*Did you mean 2/255\?"),
        ({"mu": -0.1}, r"mu=-0\.1: expected a finite value >= 0"),
        ({"mu": float("nan")}, "mu=nan"),
        ({"mu": float("inf")}, "mu=inf"),
    ],
)
def test_settings_that_cannot_be(settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MIFGSM(TinyConv(), eps=EPS, **settings)
