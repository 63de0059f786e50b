"""PGD on the logit margin, and in L2, where the best answer is known: a linear model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, Linear, TinyConv, assert_inside, images, labels
from torch import Tensor, nn

from nuat.attacks import PGD
from nuat.core.losses import cross_entropy_sum, logit_margin, margin_sum


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inner(batch: int, seed: int = 0) -> Tensor:
    """Images [B, 1, 4, 4] in float64, further than 0.3 from the border of the box, so that the ball alone binds."""
    return 0.3 + 0.4 * torch.rand(batch, 1, 4, 4, generator=seeded(seed), dtype=torch.float64)


def l2_worst_case(model: Linear, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Two classes: eps along the difference of the weights, the image of the ball with the least f_y - f_other."""
    direction = (model.weight[1 - y] - model.weight[y]).detach()
    return x + eps * direction / torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6))
def test_the_margin_against_a_loop(seed: int, classes: int) -> None:
    logits = torch.randn(4, classes, generator=seeded(seed), dtype=torch.float64)
    y = labels(4, classes, seed)
    expected = [max(z[c] for c in range(classes) if c != t) - z[t] for z, t in zip(logits, y.tolist(), strict=True)]
    assert torch.equal(logit_margin(logits, y), torch.stack(expected))
    assert torch.equal(logit_margin(logits, y) > 0, logits.argmax(1) != y)
    assert margin_sum(logits, y) == logit_margin(logits, y).sum()


def test_the_margin_of_narrow_logits_is_taken_in_float32() -> None:
    logits = torch.tensor([[1.0, 257.0, 3.0]], dtype=torch.bfloat16)
    assert logit_margin(logits, torch.tensor([2])).dtype == torch.float32
    assert float(logit_margin(logits, torch.tensor([2]))) == float(logits[0, 1]) - 3.0


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_the_closed_form_optimum_on_the_margin(eps: float) -> None:
    model = Linear().double()
    x, y = images(6, 1, dtype=torch.float64, eps=eps), labels(6, 2)
    x_adv = PGD(model, eps=eps, alpha=eps, steps=3, objective=margin_sum, generator=seeded())(x, y)
    torch.testing.assert_close(x_adv, model.worst_case(x, y, eps), rtol=0, atol=1e-12)


class Certain(nn.Module):
    """A linear model so sure of itself that the cross-entropy's gradient in float32 is 0: gradient masking."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 1e4 * self.linear(x)
        return logits


def test_the_margin_sees_through_a_model_that_is_too_sure() -> None:
    model = Certain()
    x = images(12, 1)
    y = model(x).argmax(1)
    eps = 0.4
    assert bool((model.linear.worst_margins(x, y, eps) < 0).all())
    settings = {"eps": eps, "alpha": eps, "steps": 2, "random_start": False}
    fooled = {
        objective.__name__: int((model(PGD(model, objective=objective, **settings)(x, y)).argmax(1) != y).sum())
        for objective in (cross_entropy_sum, margin_sum)
    }
    assert fooled["margin_sum"] == 12
    assert fooled["cross_entropy_sum"] < 12


@pytest.mark.parametrize("objective", [cross_entropy_sum, margin_sum])
@pytest.mark.parametrize("eps", [0.05, 0.25])
def test_the_closed_form_optimum_in_l2(eps: float, objective) -> None:
    model = Linear().double()
    x, y = inner(6), labels(6, 2)
    expected = l2_worst_case(model, x, y, eps)
    straight = PGD(model, eps=eps, norm="L2", alpha=eps / 3, steps=4, random_start=False, objective=objective)
    torch.testing.assert_close(straight(x, y), expected, rtol=0, atol=1e-12)
    # the part of the start across the direction shrinks by 11 a step
    random = PGD(model, eps=eps, norm="L2", alpha=10 * eps, steps=14, objective=objective, generator=seeded())
    x_adv = random(x, y)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)
    assert_inside(x_adv, x, eps, "L2")


def test_no_image_of_the_l2_ball_is_worse_than_pgds() -> None:
    model = Linear().double()
    x, y = images(5, 1, dtype=torch.float64), labels(5, 2)  # the box binds: no closed form, but nothing may beat it
    eps = 0.4
    x_adv = PGD(model, eps=eps, norm="L2", alpha=eps / 10, steps=200, objective=margin_sum, generator=seeded())(x, y)
    reached = logit_margin(model(x_adv), y)
    attack = PGD(model, eps=eps, norm="L2", alpha=eps, steps=1)
    for seed in range(50):
        other = attack.threat.bounds(x).project(x + attack.threat.uniform(x, seeded(seed)))
        assert bool((logit_margin(model(other), y) <= reached + 1e-9).all())
    fgsm_like = attack.threat.bounds(x).project(l2_worst_case(model, x, y, eps))
    assert bool((logit_margin(model(fgsm_like), y) <= reached + 1e-9).all())


def test_l2_restarts_and_trajectories_hold_their_ball() -> None:
    model = TinyConv().eval()
    x, y = images(5), labels(5, 4)
    attack = PGD(model, eps=10 * EPS, norm="L2", alpha=2 * EPS, steps=3, restarts=2, generator=seeded())
    for x_adv in attack.trajectory(x, y, [1, 3]).values():
        assert_inside(x_adv, x, 10 * EPS, "L2")
