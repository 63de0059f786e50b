"""The attacks that know NuAT: a slow version with the SVD, how batches are cut up, and that each setting matters."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, Rough, TinyConv, assert_inside, images, labels
from torch import Tensor, nn

from nuat.attacks import PGD, AdaptivePGD
from nuat.core.losses import cross_entropy
from nuat.errors import InputError

SETTINGS: dict[str, Any] = {"eps": EPS, "alpha": EPS / 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start_of(attack: AdaptivePGD, x: Tensor, generator: torch.Generator) -> Tensor:
    return attack.threat.bounds(x).project(x + attack.threat.uniform(x, generator))


def slow_groups(y: Tensor, size: int | None, same_class: bool, order: list[int]) -> list[list[int]]:
    kinds = [order]
    if same_class:
        kinds = [[i for i in order if int(y[i]) == c] for c in sorted(set(y.tolist()))]
    cut = len(y) if size is None else size
    return [kind[n : n + cut] for kind in kinds for n in range(0, len(kind), cut)]


def slow_adaptive(attack: AdaptivePGD, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """The nuclear norm is the sum of torch's singular values of each group."""
    model, m = attack.model, len(x)
    reference = model(x).detach()
    z = start_of(attack, x, generator)
    for _ in range(attack.steps):
        z = z.detach().requires_grad_()
        logits = model(z)
        difference = logits - reference
        if attack.objective == "logit":
            objective = sum(row.square().sum().sqrt() for row in difference)
        else:
            nuclear = torch.zeros((), dtype=x.dtype)
            for _ in range(attack.regroupings or 1):
                order = torch.randperm(m, generator=generator).tolist() if attack.regroupings else list(range(m))
                for group in slow_groups(y, attack.group_size, attack.same_class, order):
                    nuclear = nuclear + torch.linalg.svdvals(difference[group]).sum() / (attack.regroupings or 1)
            objective = nuclear
            if attack.objective == "ce+nuclear":
                lam = 4.5 if attack.lam is None else attack.lam
                objective = nn.functional.cross_entropy(logits, y, reduction="sum") + lam * nuclear
        (gradient,) = torch.autograd.grad(objective, z)
        step = (
            gradient.sign() if attack.norm == "Linf" else gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        )
        z = attack.threat.bounds(x).project(z.detach() + attack.alpha * step)
    return z


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lam": 1.0},
        {"objective": "nuclear"},
        {"objective": "logit"},
        {"group_size": 3},
        {"same_class": True},
        {"same_class": True, "group_size": 2, "objective": "nuclear"},
        {"group_size": 4, "regroupings": 3},
        {"same_class": True, "group_size": 2, "regroupings": 2},
    ],
    ids=str,
)
def test_against_a_slow_version(settings: dict[str, Any], norm) -> None:
    model = TinyConv(dropout=0.0).double().eval()
    x, y = images(9, dtype=torch.float64), labels(9, 4)
    eps = 0.1 if norm == "Linf" else 0.4
    attack = AdaptivePGD(model, eps=eps, norm=norm, alpha=eps / 3, steps=4, generator=seeded(3), **settings)
    torch.testing.assert_close(attack(x, y), slow_adaptive(attack, x, y, seeded(3)), rtol=0, atol=1e-9)


@given(
    y=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    size=st.one_of(st.none(), st.integers(1, 13)),
    same_class=st.booleans(),
    regroupings=st.integers(0, 2),
)
def test_groups_hold_every_image_once(y: list[int], size: int | None, same_class: bool, regroupings: int) -> None:
    attack = AdaptivePGD(
        Rough(),
        **SETTINGS,
        steps=1,
        group_size=size,
        same_class=same_class,
        regroupings=0 if size is None else regroupings,
        generator=seeded(),
    )
    groups = [group.tolist() for group in attack.groups(torch.tensor(y))]
    assert sorted(i for group in groups for i in group) == list(range(len(y)))
    assert all(0 < len(group) <= (size or len(y)) for group in groups)
    if same_class:
        assert all(len({y[i] for i in group}) == 1 for group in groups)
    if attack.regroupings == 0:
        assert groups == slow_groups(torch.tensor(y), size, same_class, list(range(len(y))))
        assert [group.tolist() for group in attack.groups(torch.tensor(y))] == groups


def test_regroupings_differ_from_step_to_step() -> None:
    attack = AdaptivePGD(Rough(), **SETTINGS, steps=1, group_size=4, regroupings=1, generator=seeded())
    y = labels(16, 4)
    drawn = [[sorted(group.tolist()) for group in attack.groups(y)] for _ in range(3)]
    assert drawn[0] != drawn[1] != drawn[2]


def test_every_setting_matters() -> None:
    model = TinyConv(dropout=0.0).double().eval()
    x, y = images(12, dtype=torch.float64), labels(12, 4)
    results = [
        AdaptivePGD(model, **SETTINGS, steps=3, generator=seeded(), **settings)(x, y)
        for settings in (
            {},
            {"lam": 0.5},
            {"objective": "nuclear"},
            {"objective": "logit"},
            {"group_size": 3},
            {"same_class": True},
            {"group_size": 3, "regroupings": 1},
            {"group_size": 3, "regroupings": 4},
        )
    ]
    for n, a in enumerate(results):
        assert_inside(a, x, EPS)
        assert not any(torch.equal(a, b) for b in results[:n])


def test_without_the_nuclear_norm_it_is_pgd() -> None:
    model = Rough().double()
    x, y = images(5, dtype=torch.float64), labels(5, 4)
    ours = AdaptivePGD(model, **SETTINGS, steps=4, lam=0.0, generator=seeded())(x, y)
    pgd = PGD(model, **SETTINGS, steps=4, objective=cross_entropy, generator=seeded())(x, y)
    assert torch.equal(ours, pgd)


def test_each_objective_climbs_what_it_names() -> None:
    model = TinyConv(dropout=0.0).double().eval()
    x = images(24, dtype=torch.float64)
    y = model(x).argmax(1)

    def measured(z: Tensor) -> dict[str, float]:
        difference = (model(z) - model(x)).detach()
        nuclear = float(torch.linalg.svdvals(difference).sum())
        ce = float(nn.functional.cross_entropy(model(z).detach(), y, reduction="sum"))
        return {"nuclear": nuclear, "logit": float(difference.norm(dim=1).sum()), "ce+nuclear": ce + 4.5 * nuclear}

    reached = {
        name: measured(AdaptivePGD(model, **SETTINGS, steps=20, objective=name, generator=seeded())(x, y))
        for name in ("nuclear", "logit", "ce+nuclear")
    }
    pgd = measured(PGD(model, **SETTINGS, steps=20, generator=seeded())(x, y))
    for name in reached:
        assert reached[name][name] > pgd[name]
        assert reached[name][name] >= 0.999 * max(other[name] for other in reached.values())


@pytest.mark.slow
def test_regroupings_free_the_step_from_the_order_of_the_images() -> None:
    """In groups as they come, another order gives another step; averaged over many regroupings almost the same."""
    model = TinyConv(dropout=0.0).double().eval()
    x = images(8, dtype=torch.float64)
    y = model(x).argmax(1)
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    reference = model(x).detach()
    difference = (model(x + 0.02 * torch.randn(x.shape, generator=seeded(), dtype=x.dtype)) - reference).detach()

    def gradient(regroupings: int, by: Tensor) -> Tensor:
        attack = AdaptivePGD(
            model, **SETTINGS, steps=1, objective="nuclear", group_size=2, regroupings=regroupings, generator=seeded(1)
        )
        d = difference.clone().requires_grad_()
        (found,) = torch.autograd.grad(attack._objective(d[by], torch.zeros_like(d), y[by]), d)
        return found

    as_they_come = torch.arange(8)
    fixed = (gradient(0, as_they_come) - gradient(0, order)).norm()
    averaged = (gradient(300, as_they_come) - gradient(300, order)).norm()
    assert averaged < 0.3 * fixed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2}, r"alpha=2: .*Did you mean 2/255\?"),
        ({"steps": 0}, "steps=0: expected at least 1"),
        ({"objective": "ce"}, "objective='ce': expected 'ce[+]nuclear', 'nuclear' or 'logit'"),
        ({"lam": -1.0}, r"lam=-1\.0: expected a finite weight >= 0"),
        ({"lam": float("nan")}, "lam=nan"),
        ({"lam": 1.0, "objective": "nuclear"}, "lam has no effect on the objective 'nuclear'"),
        ({"lam": 1.0, "objective": "logit"}, "lam has no effect on the objective 'logit'"),
        ({"group_size": 0}, "group_size=0: expected at least 1"),
        ({"group_size": 4, "regroupings": -1}, "regroupings=-1: expected at least 0"),
        ({"regroupings": 2}, "regroupings has no effect without group_size"),
        ({"objective": "logit", "same_class": True}, "same_class and group_size have no effect on 'logit'"),
        ({"objective": "logit", "group_size": 2}, "same_class and group_size have no effect on 'logit'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdaptivePGD(TinyConv(), **{**SETTINGS, "steps": 1, **settings})
