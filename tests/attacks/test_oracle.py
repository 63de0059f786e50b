"""The attacks where the best answer is known (a linear model), and against slow versions written from the papers."""

import dataclasses

import pytest
import torch
from oracles import EPS, Linear, Rough, TinyConv, assert_inside, coin, images, labels
from reference.algorithm1 import attack_step
from torch import Tensor, nn

from nuat.attacks import FGSM, GAMAPGD, PGD, RFGSM, Attack, NuclearNormAttack
from nuat.core.losses import cross_entropy_sum, probability_margin
from nuat.core.threat import Norm
from nuat.errors import InputError

EPSILONS = [8 / 255, 0.3, 1.0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(classes: int = 2, size: int = 5, dtype: torch.dtype = torch.float64, eps: float = EPS, channels: int = 1):
    return images(size, channels, 4, dtype, eps), labels(size, classes)


def optimal(model: nn.Module, eps: float) -> dict[str, Attack]:
    return {
        "fgsm": FGSM(model, eps=eps),
        "i-fgsm": PGD(model, eps=eps, alpha=eps / 7, steps=7, random_start=False),
        "pgd": PGD(model, eps=eps, alpha=eps / 4, steps=8, generator=seeded()),
        "pgd restarts": PGD(model, eps=eps, alpha=eps / 2, steps=4, restarts=3, generator=seeded()),
        "pgd on the margin": PGD(
            model, eps=eps, alpha=eps, steps=2, objective=lambda z, y: probability_margin(z, y).sum()
        ),
        "gama": GAMAPGD(model, eps=eps, steps=20, generator=seeded()),
        "nuclear, lam 0, two steps": NuclearNormAttack(model, eps=eps, lam=0.0, steps=2, generator=seeded()),
    }


@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("name", list(optimal(nn.Identity(), 0.1)))
def test_the_closed_form_optimum_on_a_linear_model(name: str, eps: float) -> None:
    model = Linear().double()
    x, y = batch(size=6, eps=eps)
    assert 0 < int(y.sum()) < 6  # both classes occur
    x_adv = optimal(model, eps)[name](x, y)
    assert_inside(x_adv, x, eps)
    torch.testing.assert_close(x_adv, model.worst_case(x, y, eps), rtol=0, atol=1e-12)
    logits = model(x_adv).detach()
    margins = logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])
    torch.testing.assert_close(margins[:, 0], model.worst_margins(x, y, eps), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.3), ("L1", 0.2)])
@pytest.mark.parametrize("name", ["fgsm", "rfgsm", "pgd", "gama", "nuclear"])
def test_the_closed_form_optimum_in_l2_and_l1(name: str, norm: Norm, eps: float) -> None:
    """Away from the box a linear margin falls by eps times the dual norm of its gradient: L2's own, and the maximum."""
    model = Linear().double()
    x, y = 0.3 + 0.4 * images(6, 1, 4, torch.float64), labels(6, 2)
    attack: Attack = {
        "fgsm": FGSM(model, eps=eps, norm=norm),
        "rfgsm": RFGSM(model, eps=eps, norm=norm, generator=seeded()),
        "pgd": PGD(model, eps=eps, norm=norm, alpha=eps / 4, steps=60, generator=seeded()),
        "gama": GAMAPGD(model, eps=eps, norm=norm, steps=60, generator=seeded()),
        "nuclear": NuclearNormAttack(model, eps=eps, norm=norm, lam=0.0, steps=2, generator=seeded()),
    }[name]
    x_adv = attack(x, y)
    assert_inside(x_adv, x, eps, norm)
    direction = (model.weight[1 - y] - model.weight[y]).detach().flatten(1)
    dual = torch.linalg.vector_norm(direction, 2 if norm == "L2" else torch.inf, dim=1)

    def margins(z: Tensor) -> Tensor:
        logits = model(z).detach()
        return (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0]

    rise = margins(x) - margins(x_adv)
    if name == "rfgsm" or (name, norm) == ("nuclear", "L2"):  # of a random start something is left
        assert bool((rise > (0.3 if name == "rfgsm" else 0.95) * eps * dual).all())
        assert bool((rise < eps * dual).all())
    else:
        torch.testing.assert_close(rise, eps * dual, rtol=0, atol=1e-6)


def highest_rise(slope: Tensor, room: Tensor, eps: float, norm: Norm) -> Tensor:
    """Return slope . delta of the best delta in the ball and the box, where a pixel may move by ``room`` along slope.

    In L1 the steepest pixels go to their borders, one after another. In L2 delta = min(t slope, room), t by bisection.
    """
    slope, room = slope.abs(), room.clamp(min=0.0)
    if norm == "L1":
        order = slope.argsort(descending=True)
        spent = room[order].cumsum(0) - room[order]
        return (slope[order] * torch.minimum((eps - spent).clamp(min=0.0), room[order])).sum()
    low, high = 0.0, 1e6
    for _ in range(100):
        t = (low + high) / 2
        low, high = (t, high) if float(torch.minimum(t * slope, room).norm()) < eps else (low, t)
    return (slope * torch.minimum(low * slope, room)).sum()


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.8), ("L1", 8.0)])
def test_the_box_costs_pgd_and_gama_next_to_nothing_in_l2_and_l1(norm: Norm, eps: float) -> None:
    """Where most pixels are black, as in digits, half of the steepest steps would leave the box."""
    generator = seeded()
    model = Linear(size=12).double()
    model.weight.data = torch.randn(model.weight.shape, generator=generator, dtype=torch.float64)
    x = torch.rand(4, 1, 12, 12, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.8] = 0.0
    y = labels(4, 2)
    slope = (model.weight[1 - y] - model.weight[y]).detach()
    room = torch.where(slope > 0, 1.0 - x, x)
    best = torch.stack([highest_rise(s.flatten(), r.flatten(), eps, norm) for s, r in zip(slope, room, strict=True)])
    loose = eps * torch.linalg.vector_norm(slope.flatten(1), 2 if norm == "L2" else torch.inf, dim=1)
    assert bool((best < 0.9 * loose).all())  # the box binds
    for attack in (
        PGD(model, eps=eps, norm=norm, alpha=eps / 10, steps=60, generator=generator),
        GAMAPGD(model, eps=eps, norm=norm, generator=generator),
    ):
        rise = (slope * (attack(x, y) - x)).flatten(1).sum(dim=1)
        assert bool((rise <= best + 1e-9).all())
        assert bool((rise > 0.98 * best).all()), (rise / best).tolist()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "gama"])
def test_in_float32_every_pixel_is_at_its_bound(name: str) -> None:
    model = Linear()
    x, y = batch(dtype=torch.float32)
    attack = optimal(model, EPS)[name]
    bounds = attack.threat.bounds(x)
    direction = model.weight[1 - y] - model.weight[y]
    assert torch.equal(attack(x, y), torch.where(direction > 0, bounds.upper, bounds.lower))


def test_rfgsm_from_its_start() -> None:
    model = Linear().double()
    x, y = batch()
    for seed in range(3):
        x_adv = RFGSM(model, eps=EPS, generator=seeded(seed))(x, y)
        start = (x + coin(x, EPS / 2, seeded(seed))).clamp(0.0, 1.0)
        direction = (model.weight[1 - y] - model.weight[y]).sign()
        expected = (start + EPS / 2 * direction).clamp(0.0, 1.0)
        torch.testing.assert_close(x_adv, expected.detach(), rtol=0, atol=1e-12)
        # half of the pixels, those whose coin fell the other way, did not move
        assert bool(((x_adv - x).abs() < 1e-9).any())


def test_several_classes_never_beyond_the_oracle_and_pgd_at_least_fgsm() -> None:
    model = Linear(classes=5, channels=2).double()
    x, y = batch(5, size=16, channels=2, eps=0.05)
    losses: dict[str, Tensor] = {}
    for name, attack in optimal(model, 0.05).items():
        logits = model(attack(x, y)).detach()
        others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
        margins = logits.gather(1, y[:, None])[:, 0] - others
        assert bool((margins >= model.worst_margins(x, y, 0.05) - 1e-10).all()), name
        losses[name] = nn.functional.cross_entropy(logits, y, reduction="none")
    # the loss is convex, so steps of the sign never lose: from the image, at the full step, the first one is FGSM
    pgd = PGD(model, eps=0.05, alpha=0.05, steps=6, random_start=False)(x, y)
    pgd_losses = nn.functional.cross_entropy(model(pgd).detach(), y, reduction="none")
    assert bool((pgd_losses >= losses["fgsm"] - 1e-12).all())


# PGD


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_trajectory_equals_separate_runs(restarts: int) -> None:
    model = TinyConv()
    x, y = images(6), labels(6, 4)
    attack = PGD(model, eps=EPS, alpha=2 / 255, steps=1, restarts=restarts)

    def with_steps(steps: int) -> PGD:
        return dataclasses.replace(attack, steps=steps, generator=seeded(3))

    # a restart draws its start before its steps, so runs of any length draw the same
    trajectory = with_steps(1).trajectory(x, y, [5, 1, 2, 5])
    assert sorted(trajectory) == [1, 2, 5]
    for steps, x_adv in trajectory.items():
        assert torch.equal(x_adv, with_steps(steps)(x, y)), steps
        assert_inside(x_adv, x, EPS)
    assert not torch.equal(trajectory[1], trajectory[5])


@pytest.mark.parametrize("steps", [[], [0], [3, -1]])
def test_a_trajectory_without_steps_is_refused(steps: list[int]) -> None:
    attack = PGD(TinyConv(), eps=EPS, alpha=2 / 255, steps=1)
    with pytest.raises(InputError, match="at least 1"):
        attack.trajectory(images(2), labels(2, 4), steps)


def scores(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model.eval()(x_adv)
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    return losses.masked_fill(logits.argmax(1) != y, torch.inf)


def test_restarts_keep_the_better() -> None:
    model = TinyConv().eval()
    x = images(24)
    with torch.no_grad():
        y = model(x).argmax(1)
    settings = {"eps": EPS, "alpha": 2 / 255, "steps": 1}
    generator = seeded(5)
    singles = [PGD(model, generator=generator, **settings)(x, y) for _ in range(4)]
    together = PGD(model, generator=seeded(5), restarts=4, **settings)(x, y)
    each = torch.stack([scores(model, single, y) for single in singles])
    assert torch.equal(scores(model, together, y), each.amax(dim=0))
    kept = each.argmax(dim=0)  # of equals the first: the first restart that fools the model
    assert len(kept.unique()) > 1
    for image, restart in enumerate(kept.tolist()):
        assert torch.equal(together[image], singles[restart][image])


def test_i_fgsm_starts_at_the_image_and_needs_no_noise() -> None:
    model = TinyConv().double().eval()
    x, y = images(4, dtype=torch.float64), labels(4, 4)
    attack = PGD(model, eps=EPS, alpha=EPS / 7, steps=3, random_start=False)
    before = torch.get_rng_state()
    x_adv = attack(x, y)
    assert torch.equal(torch.get_rng_state(), before)
    z = x.clone()
    for _ in range(3):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(z), y), z)
        z = (x + (z.detach() + EPS / 7 * gradient.sign() - x).clamp(-EPS, EPS)).clamp(0.0, 1.0)
    torch.testing.assert_close(x_adv, z, rtol=0, atol=1e-12)


def test_a_random_start_is_in_the_ball_and_random() -> None:
    model = Linear().double()
    x, y = batch()
    flat = PGD(model, eps=EPS, alpha=1e-9, steps=1, generator=seeded(), objective=cross_entropy_sum)
    first, second = flat(x, y), flat(x, y)
    assert_inside(first, x, EPS)
    assert float((first - second).abs().max()) > EPS
    assert float((first - x).abs().max()) > 0.8 * EPS


# GAMA


def slow_gama(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Written from paper/hyperparameters.md: 100 steps; another number has the same shape. The images of each step."""
    path = []
    z = (x + coin(x, eps, generator)).clamp(0.0, 1.0)
    start = model(z).softmax(1).detach()
    for step in range(1, steps + 1):
        done = (step - 1) / steps
        weight = 50.0 * (1.0 - done / 0.25) if done < 0.25 else 0.0
        alpha = 2 * eps if done < 0.60 else 2 * eps / 10 if done < 0.85 else 2 * eps / 100
        z = z.detach().requires_grad_()
        path.append(z.detach())
        p = model(z).softmax(1)
        objective = torch.zeros((), dtype=x.dtype)
        for i in range(len(x)):
            other = max(
                (c for c in range(p.shape[1]) if c != int(y[i])), key=lambda c, row=p[i]: float(row[c].detach())
            )
            objective = objective + p[i, other] - p[i, y[i]] + weight * ((p[i] - start[i]) ** 2).sum()
        (gradient,) = torch.autograd.grad(objective, z)
        z = z.detach() + alpha * gradient.sign()
        z = torch.min(torch.max(z, x - eps), x + eps).clamp(0.0, 1.0)
    return [*path, z]


def path_of(attack: Attack, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the images that an attack asks the model about, one after another without repeats, and its result."""
    path: list[Tensor] = []
    handle = attack.model.register_forward_pre_hook(lambda module, inputs: path.append(inputs[0].detach().clone()))
    path.append(attack(x, y))
    handle.remove()
    return [z for n, z in enumerate(path) if n == 0 or not torch.equal(z, path[n - 1])]


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_gama_against_a_slow_version(steps: int) -> None:
    model = Rough().double().eval()
    x, y = images(3, dtype=torch.float64), labels(3, 4)
    ours = path_of(GAMAPGD(model, eps=EPS, steps=steps, generator=seeded(2)), x, y)
    theirs = slow_gama(model, x, y, EPS, steps, seeded(2))
    theirs = [z for n, z in enumerate(theirs) if n == 0 or not torch.equal(z, theirs[n - 1])]
    assert len(ours) == len(theirs) > 0.9 * steps
    for z, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-10)


def test_gamas_weight_has_an_effect() -> None:
    model = Rough().eval()
    x, y = images(4), labels(4, 4)
    with_weight, without = (
        path_of(GAMAPGD(model, eps=EPS, steps=8, weight=w, generator=seeded()), x, y) for w in (50.0, 0.0)
    )
    assert torch.equal(with_weight[1], without[1])  # at the start the distance has no gradient
    assert not torch.equal(with_weight[2], without[2])


# the nuclear-norm attack


@pytest.mark.parametrize("alpha", [None, 0.09])
@pytest.mark.parametrize("steps", [1, 2])
def test_nuclear_norm_attack_against_a_slow_version(steps: int, alpha: float | None) -> None:
    model = TinyConv(dropout=0.0).double().eval()
    eps, lam = 0.1, 6.0
    x, y = images(6, dtype=torch.float64, eps=eps), labels(6, 4)
    x_adv = NuclearNormAttack(model, eps=eps, lam=lam, steps=steps, alpha=alpha, generator=seeded(4))(x, y)
    noise = coin(x, eps / 2 if alpha is None else alpha, seeded(4))
    delta = (x + noise).clamp(0.0, 1.0) - x
    f_x = model(x).detach()
    delta = attack_step(model, x, y, delta, f_x, lam, eps)
    if steps == 2:
        delta = attack_step(model, x, y, delta, None, 0.0, eps)
    torch.testing.assert_close(x_adv, x + delta, rtol=0, atol=1e-12)
    if steps == 1:  # the nuclear norm takes part
        other = NuclearNormAttack(model, eps=eps, lam=0.0, alpha=alpha, generator=seeded(4))(x, y)
        assert not torch.equal(x_adv, other)


def test_nuclear_norm_attack_couples_the_images_of_a_batch() -> None:
    model = TinyConv(dropout=0.0).double().eval()
    x, y = images(6, dtype=torch.float64), labels(6, 4)
    noise = coin(x, EPS / 2, seeded())
    together = NuclearNormAttack(model, eps=EPS, lam=50.0, generator=seeded())(x, y)
    # of the first images the same noise: the generator fills them first
    alone = NuclearNormAttack(model, eps=EPS, lam=50.0, generator=seeded())(x[:2], y[:2])
    assert torch.equal(coin(x[:2], EPS / 2, seeded()), noise[:2])
    assert not torch.equal(together[:2], alone)


# settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: FGSM(m, eps=8), r"eps=8: .*Did you mean 8/255\?"),
        (lambda m: RFGSM(m, eps=0.0), r"eps=0: expected"),
        (lambda m: PGD(m, eps=EPS, alpha=2, steps=1), r"alpha=2: .*Did you mean 2/255\?"),
        (lambda m: PGD(m, eps=EPS, alpha=EPS, steps=0), r"steps=0: expected at least 1"),
        (lambda m: PGD(m, eps=EPS, alpha=EPS, steps=1, restarts=0), r"restarts=0: expected at least 1"),
        (
            lambda m: PGD(m, eps=EPS, alpha=EPS, steps=1, restarts=2, random_start=False),
            r"restarts=2 repeats the same attack without random_start",
        ),
        (lambda m: GAMAPGD(m, eps=EPS, steps=0), r"steps=0: expected at least 1"),
        (lambda m: GAMAPGD(m, eps=EPS, weight=-1.0), r"weight=-1\.0: expected a value >= 0"),
        (lambda m: GAMAPGD(m, eps=EPS, weight=float("nan")), r"weight=nan"),
        (lambda m: NuclearNormAttack(m, eps=EPS, steps=3), r"steps=3: .*1 step or 2"),
        (lambda m: NuclearNormAttack(m, eps=EPS, lam=-1.0), r"lam=-1\.0: expected a weight >= 0"),
        (lambda m: NuclearNormAttack(m, eps=EPS, alpha=4), r"alpha=4: .*Did you mean 4/255\?"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(TinyConv())
