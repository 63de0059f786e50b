"""GAMA-FW and GAMA-MT against slow versions, step by step, and where the best answer is known."""

import pytest
import torch
from oracles import EPS, Linear, Rough, TinyConv, coin, images, labels
from torch import Tensor, nn

from nuat.attacks import GAMAFW, GAMAMT, GAMAPGD
from nuat.core.losses import logit_margin
from nuat.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def margin_of(p: Tensor, true: int, target: int | None) -> Tensor:
    """The probability of the target, or of the likeliest wrong class, minus that of the true one."""
    others = [c for c in range(len(p)) if c != true]
    return p[target if target is not None else max(others, key=lambda c: float(p[c].detach()))] - p[true]


def slow_gama(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, noise: Tensor, *, fw: bool, target: Tensor | None
) -> list[Tensor]:
    """GAMA with PGD's or Frank-Wolfe's steps, written for 100 steps and scaled; the images of each step."""
    start = (x + noise).clamp(0.0, 1.0)
    path = [start]
    p_start = model(start).softmax(1).detach()
    for step in range(steps):
        at = 100 * step / steps  # the step of 100 that this one stands for
        weight = 50.0 * (1 - at / 25) if at < 25 else 0.0
        z = path[-1].clone().requires_grad_()
        p = model(z).softmax(1)
        objective = torch.zeros((), dtype=x.dtype)
        for i in range(len(x)):
            goal = None if target is None else int(target[i])
            objective = objective + margin_of(p[i], int(y[i]), goal) + weight * ((p[i] - p_start[i]) ** 2).sum()
        (gradient,) = torch.autograd.grad(objective, z)
        if fw:
            gamma = 0.5 if at < 60 else 0.1 if at < 85 else 0.02
            z = (1 - gamma) * z.detach() + gamma * (x + eps * gradient.sign())
        else:
            z = z.detach() + (2 * eps if at < 60 else 2 * eps / 10 if at < 85 else 2 * eps / 100) * gradient.sign()
        path.append((x + (z - x).clamp(-eps, eps)).clamp(0.0, 1.0))
    return path


# Frank-Wolfe


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_gama_fw_against_a_slow_version(steps: int) -> None:
    model = Rough().double()
    x, y = images(3, dtype=torch.float64), labels(3, 4)
    asked: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0].detach().clone()))
    ours = GAMAFW(model, eps=EPS, steps=steps, generator=seeded(2))(x, y)
    handle.remove()
    path = slow_gama(model, x, y, EPS, steps, coin(x, EPS, seeded(2)), fw=True, target=None)
    for z, expected in zip([*asked[1:], ours], path, strict=True):  # the first pass is the start's softmax
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-10)


def test_gama_fw_is_not_gama_pgd_and_its_settings_matter() -> None:
    model = Rough().double()
    x, y = images(4, dtype=torch.float64), labels(4, 4)
    attacks = [
        GAMAPGD(model, eps=EPS, steps=12, generator=seeded()),
        GAMAFW(model, eps=EPS, steps=12, generator=seeded()),
        GAMAFW(model, eps=EPS, steps=12, gamma=0.9, generator=seeded()),
        GAMAFW(model, eps=EPS, steps=12, weight=0.0, generator=seeded()),
    ]
    results = [attack(x, y) for attack in attacks]
    for n, a in enumerate(results):
        assert not any(torch.equal(a, b) for b in results[:n])


@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_gama_fw_nears_the_closed_form_optimum_as_fast_as_its_steps_say(eps: float) -> None:
    """On a linear model each step leaves 1 - gamma of the way to the corner: 0.5^60 0.9^25 0.98^15 is nothing."""
    model = Linear().double()
    x, y = images(6, 1, dtype=torch.float64, eps=eps), labels(6, 2)
    x_adv = GAMAFW(model, eps=eps, steps=100, weight=0.0, generator=seeded())(x, y)
    torch.testing.assert_close(x_adv, model.worst_case(x, y, eps), rtol=0, atol=1e-12)
    # at gamma = 1 the first step is there
    once = GAMAFW(model, eps=eps, steps=1, gamma=1.0, generator=seeded())(x, y)
    torch.testing.assert_close(once, model.worst_case(x, y, eps), rtol=0, atol=1e-12)


# multi-targeted


def slow_gama_mt(model: nn.Module, x: Tensor, y: Tensor, steps: int, targets: int) -> tuple[Tensor, list[int]]:
    """Class by class on the images that stand, drawn as the library draws; also how many classes each went through."""
    generator = seeded(2)
    clean = model(x).detach()
    order = [
        sorted((c for c in range(len(z)) if c != int(t)), key=lambda c, z=z: -float(z[c]))
        for z, t in zip(clean, y, strict=True)
    ]
    best = x.clone()
    margins = [float(m) for m in logit_margin(clean, y)]
    standing = [i for i in range(len(x)) if int(clean[i].argmax()) == int(y[i])]
    runs = [0] * len(x)
    for rank in range(targets):
        if not standing:
            break
        target = torch.tensor([order[i][rank] for i in standing])
        part, true = x[standing], y[standing]
        z = slow_gama(model, part, true, EPS / 8, steps, coin(part, EPS / 8, generator), fw=False, target=target)[-1]
        logits = model(z).detach()
        for n, i in enumerate(list(standing)):
            runs[i] += 1
            margin = float(logit_margin(logits[n : n + 1], y[i : i + 1]))
            if int(logits[n].argmax()) != int(y[i]):
                best[i] = z[n]
                standing.remove(i)
            elif margin > margins[i]:
                best[i], margins[i] = z[n], margin
    return best, runs


@pytest.mark.parametrize("targets", [1, 3, None])
def test_gama_mt_against_a_slow_version(targets: int | None) -> None:
    model = Rough(classes=5).double()
    x, y = images(16, dtype=torch.float64), labels(16, 5)
    y[2:] = model(x).argmax(1)[2:]
    ours = GAMAMT(model, eps=EPS / 8, steps=9, targets=targets, generator=seeded(2))(x, y)
    theirs, runs = slow_gama_mt(model, x, y, 9, 4 if targets is None else targets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert {0, 1} <= set(runs)
    assert max(runs) > 1 or targets == 1


def test_gama_mt_of_two_classes_is_gama_pgd_on_what_stands() -> None:
    model = Rough(classes=2).double()
    x = images(5, dtype=torch.float64)
    y = model(x).argmax(1)
    settings = {"eps": EPS, "steps": 10}
    pgd = GAMAPGD(model, generator=seeded(), **settings)(x, y)
    mt = GAMAMT(model, generator=seeded(), **settings)(x, y)
    higher = logit_margin(model(pgd), y) > logit_margin(model(x), y)
    assert bool(higher.any())
    assert torch.equal(mt[higher], pgd[higher])


def test_gama_mt_finds_what_exists_on_a_linear_model() -> None:
    model = Linear(classes=5, channels=2).double()
    x = images(30, 2, dtype=torch.float64)
    y = model(x).argmax(1)
    margins = model.worst_margins(x, y, EPS)
    assert 3 < int((margins < 0).sum()) < 27
    x_adv = GAMAMT(model, eps=EPS, steps=20, weight=0.0, generator=seeded())(x, y)
    assert torch.equal(model(x_adv).argmax(1) != y, margins < 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: GAMAFW(m, eps=EPS, steps=0), "steps=0: expected at least 1"),
        (lambda m: GAMAFW(m, eps=EPS, weight=-1.0), r"weight=-1\.0: expected a value >= 0"),
        (lambda m: GAMAFW(m, eps=EPS, gamma=0.0), r"gamma=0\.0: expected a value in \(0, 1\]"),
        (lambda m: GAMAFW(m, eps=EPS, gamma=1.1), r"gamma=1\.1: expected"),
        (lambda m: GAMAFW(m, eps=EPS, gamma=float("nan")), "gamma=nan"),
        (lambda m: GAMAMT(m, eps=EPS, steps=0), "steps=0: expected at least 1"),
        (lambda m: GAMAMT(m, eps=EPS, targets=0), "targets=0: expected at least 1"),
        (
            lambda m: GAMAMT(m, eps=EPS, targets=4)(images(1), labels(1, 4)),
            "targets=4: a model of 4 classes has 3 wrong ones",
        ),
    ],
)
def test_settings_that_cannot_be(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(TinyConv())
