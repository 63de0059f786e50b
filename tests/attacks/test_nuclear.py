"""The attack on a norm alone, against a slow version and a linear model's closed form.

test_oracle.py tests the attack on Eq. 1.
"""

import numpy as np
import pytest
import torch
from figure_models import Linear, images
from oracles import TinyConv
from oracles import images as colour_images
from reference import algorithm1
from torch import Tensor

from nuat.attacks.nuclear import norm_attack
from nuat.core.nuclear import NormName
from nuat.core.threat import bernoulli
from nuat.figures.confusion import entropy


@pytest.mark.parametrize(("steps", "step_size"), [(1, 0.1), (7, 0.025)])
@pytest.mark.parametrize("norm", ["nuclear", "frobenius"])
def test_the_attack_is_the_closed_form_on_a_linear_model(norm: NormName, steps: int, step_size: float) -> None:
    model, eps, alpha = Linear(), 0.1, 0.05
    x = images(6).images / 255
    noise = bernoulli(x, alpha, torch.Generator().manual_seed(9))
    x_adv = norm_attack(
        model, x, model(x).detach(), norm=norm, eps=eps, alpha=alpha, steps=steps, step_size=step_size,
        generator=torch.Generator().manual_seed(9),
    )  # fmt: skip
    w = model.weight.detach().double().numpy()
    delta = noise.double().numpy().reshape(6, -1)
    for _ in range(steps):
        a = delta @ w.T  # f(X + Delta) - f(X)
        u, _, vt = np.linalg.svd(a, full_matrices=False)
        slope = (u @ vt if norm == "nuclear" else a / np.linalg.norm(a)) @ w
        delta = np.clip(delta + step_size * np.sign(slope), -eps, eps)
    assert (x_adv - x).reshape(6, -1).numpy() == pytest.approx(delta, abs=1e-6)


@pytest.mark.parametrize("norm", ["nuclear", "frobenius"])
def test_attack_and_entropy_are_the_slow_ones_in_float64(norm: NormName) -> None:
    """Section 5.1: 7 steps of 2/255 from a start of 4/255 within 8/255, and the entropy in base 10."""
    model, x = TinyConv(classes=4, dropout=0.0).double().eval(), colour_images(9, 3, 6, torch.float64, 8 / 255)
    settings = {"eps": 8 / 255, "alpha": 4 / 255, "steps": 7, "step_size": 2 / 255}
    reference, draws = model(x).detach(), torch.Generator().manual_seed(4)
    x_adv = norm_attack(model, x, reference, norm=norm, **settings, generator=draws)
    measure = {"nuclear": algorithm1.nuclear_norm, "frobenius": algorithm1.frobenius_norm}[norm]
    slow = algorithm1.norm_attack(model, x, measure, **settings, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(x_adv, slow, rtol=1e-9, atol=1e-12)
    found = entropy(model(x_adv).softmax(dim=1).mean(dim=0).detach())
    assert float(found) == pytest.approx(algorithm1.entropy_of_the_mean_softmax(model, slow), rel=1e-9)


def test_both_norms_differ() -> None:
    model, x = Linear(), images(6).images / 255
    reference = model(x).detach()

    def attacked(norm: NormName) -> Tensor:
        draws = torch.Generator().manual_seed(2)
        return norm_attack(model, x, reference, norm=norm, eps=0.1, alpha=0.05, steps=1, step_size=0.1, generator=draws)

    assert torch.equal(attacked("nuclear"), attacked("nuclear"))
    assert not torch.equal(attacked("nuclear"), attacked("frobenius"))
