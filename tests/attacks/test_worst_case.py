"""Ensembles, transfer and random noise: what is kept of several attempts, and what is asked of which model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, Linear, Rough, TinyConv, assert_inside, images, labels
from torch import Tensor, nn

from nuat.attacks import FGSM, GAMAPGD, PGD, Ensemble, RandomNoise, TargetedPGD, Transfer
from nuat.attacks.worst_case import keep_worst, severity
from nuat.core.losses import logit_margin
from nuat.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# what is kept


def test_severity_follows_the_verdict_where_logits_tie() -> None:
    logits = torch.tensor([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [0.0, 3.0, 1.0]])
    assert severity(logits, torch.tensor([0, 1, 1])).tolist() == [0.0, torch.inf, -2.0]


@given(seed=st.integers(0, 1000), attempts=st.integers(0, 4))
def test_the_first_break_else_the_highest_margin(seed: int, attempts: int) -> None:
    """The model reads its logits off the image, so that attempts are any logits; against a loop over images."""
    model = nn.Flatten()
    generator = seeded(seed)
    x = torch.rand(6, 3, 1, 1, generator=generator)
    y = labels(6, 3, seed)
    made = [0.9 * torch.rand(x.shape, generator=generator) for _ in range(attempts)]
    asked: list[list[int]] = []

    def give(n: int):
        return lambda left: (asked.append(left.tolist()), made[n][left])[1]

    kept = keep_worst(model, x, y, (give(n) for n in range(attempts)))
    for i in range(6):
        candidates = [x[i], *(m[i] for m in made)]
        broken = [n for n, z in enumerate(candidates) if int(z.argmax()) != int(y[i])]
        margins = [float(logit_margin(z.view(1, 3), y[i : i + 1])) for z in candidates]
        best = broken[0] if broken else max(range(len(margins)), key=margins.__getitem__)
        assert torch.equal(kept[i], candidates[best])
        runs = [n for n, left in enumerate(asked) if i in left]
        assert runs == list(range(broken[0] if broken else attempts))


# ensembles


def test_an_ensemble_is_its_attacks_worst_case() -> None:
    model = TinyConv(dropout=0.0).eval()
    x, y = images(40), labels(40, 4)
    y[::2] = model(x).argmax(1)[::2]
    eps = 0.03
    attacks = [
        FGSM(model, eps=eps),
        PGD(model, eps=eps, alpha=eps / 2, steps=4, random_start=False),
        TargetedPGD(model, eps=eps, alpha=eps / 2, steps=4, random_start=False),
    ]
    ours = Ensemble(model, attacks=attacks)(x, y)
    alone = [x, *(attack(x, y) for attack in attacks)]
    found = torch.stack([severity(model(z).detach(), y) for z in alone])
    assert len(set(found.argmax(dim=0).tolist())) > 2  # several of them are the worst of some image
    for i, best in enumerate(found.argmax(dim=0).tolist()):  # of equals the first
        torch.testing.assert_close(ours[i], alone[best][i], rtol=0, atol=1e-6)
    assert_inside(ours, x, eps)


def test_an_ensemble_takes_norm_and_radius_of_its_attacks() -> None:
    model = TinyConv()
    ensemble = Ensemble(model, attacks=[PGD(model, eps=2.0, norm="L2", alpha=1.0, steps=1)])
    assert (ensemble.eps, ensemble.norm) == (2.0, "L2")
    assert_inside(ensemble(images(3), labels(3, 4)), images(3), 2.0, "L2")


def test_ensembles_that_cannot_be() -> None:
    model, other = TinyConv(), TinyConv(seed=1)
    with pytest.raises(InputError, match="attacks is empty"):
        Ensemble(model, attacks=[])
    with pytest.raises(InputError, match="every attack must be one on the ensemble's model"):
        Ensemble(model, attacks=[FGSM(model, eps=EPS), FGSM(other, eps=EPS)])
    with pytest.raises(InputError, match=r"one norm and one eps for all; got \[\('Linf', 0.1\), \('Linf', 0.2\)\]"):
        Ensemble(model, attacks=[FGSM(model, eps=0.1), FGSM(model, eps=0.2)])
    with pytest.raises(InputError, match=r"got \[\('L2', 0.1\), \('Linf', 0.1\)\]"):
        Ensemble(model, attacks=[FGSM(model, eps=0.1), PGD(model, eps=0.1, norm="L2", alpha=0.1, steps=1)])


# transfer


def test_transfer_attacks_the_surrogate_and_never_asks_the_model() -> None:
    model, surrogate = TinyConv(seed=1).train(), TinyConv(seed=2).train()
    x, y = images(5), labels(5, 4)
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was asked"))
    transfer = Transfer(
        model, surrogate=surrogate, make=lambda m: PGD(m, eps=EPS, alpha=EPS / 2, steps=3, generator=seeded())
    )
    direct = PGD(surrogate, eps=EPS, alpha=EPS / 2, steps=3, generator=seeded())(x, y)
    assert torch.equal(transfer(x, y), direct)
    assert surrogate.training
    assert all(p.grad is None for p in (*model.parameters(), *surrogate.parameters()))
    assert (transfer.eps, transfer.norm) == (EPS, "Linf")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_transfer_from_a_surrogate_of_another_precision(dtype: torch.dtype) -> None:
    model, surrogate = TinyConv(), TinyConv(seed=2).to(dtype)
    x, y = images(5), labels(5, 4)
    x_adv = Transfer(model, surrogate=surrogate, make=lambda m: FGSM(m, eps=EPS))(x, y)
    assert_inside(x_adv, x, EPS)
    assert float((x_adv - x).abs().max()) > 0.8 * EPS


def test_transfers_that_cannot_be() -> None:
    model, surrogate = TinyConv(), TinyConv(classes=2, seed=1)
    for make in (lambda m: FGSM(model, eps=EPS), lambda m: m):
        with pytest.raises(InputError, match="make must return an attack on the model that it is given"):
            Transfer(model, surrogate=surrogate, make=make)
    transfer = Transfer(model, surrogate=surrogate, make=lambda m: FGSM(m, eps=EPS))
    with pytest.raises(InputError, match="the surrogate has 2 classes; the labels go up to 3"):
        transfer(images(2), torch.tensor([0, 3]))


# random noise


def slow_noise(attack: RandomNoise, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """One image alone: draw by draw, as if every draw were a pass of its own."""
    best, worst = x, float(severity(attack.model(x), y))
    drawn = 0
    while drawn < attack.draws and worst != torch.inf:
        count = min(attack.batch_size, attack.draws - drawn)
        for z in attack.threat.bounds(x.expand(count, -1, -1, -1)).project(
            x + attack.threat.uniform(x.expand(count, -1, -1, -1), generator)
        ):
            found = float(severity(attack.model(z[None]), y))
            if found > worst:
                best, worst = z[None], found
        drawn += count
    return best


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_noise_against_a_slow_version(norm) -> None:
    model = Rough().double()
    found = set()
    for i in range(8):
        x = images(1, dtype=torch.float64, seed=i)
        y = model(x).argmax(1)
        attack = RandomNoise(model, eps=0.03 if norm == "Linf" else 0.1, norm=norm, draws=23, batch_size=5)
        with torch.no_grad():
            expected = slow_noise(attack, x, y, seeded(i))
            ours = RandomNoise(model, eps=attack.eps, norm=norm, draws=23, batch_size=5, generator=seeded(i))(x, y)
            assert torch.equal(ours, expected)
            found.add(bool(model(ours).argmax(1) == y))
    assert found == {True, False}


def test_noise_makes_every_draw_and_leaves_the_broken_alone() -> None:
    model = Linear(3).double()
    x = images(9, 1, dtype=torch.float64)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 3  # misclassified as it is
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    x_adv = RandomNoise(model, eps=1e-6, draws=10, batch_size=20, generator=seeded())(x, y)
    assert passes == [9, 16, 16, 16, 16, 16]  # eight stand, two draws each at a time
    assert torch.equal(x_adv[0], x[0])
    passes.clear()
    RandomNoise(model, eps=1e-6, draws=3, batch_size=5, generator=seeded())(x, y)
    assert passes == [9, 5, 3, 5, 3, 5, 3]  # never more than the batch size at once after the first


def test_noise_breaks_what_is_almost_broken_and_nothing_that_cannot_be() -> None:
    model = Linear().double()
    x, y = images(40, 1, dtype=torch.float64), labels(40, 2)
    y = model(x).argmax(1)
    eps = 0.1
    x_adv = RandomNoise(model, eps=eps, draws=300, generator=seeded())(x, y)
    broken = model(x_adv).argmax(1) != y
    assert not bool((broken & (model.worst_margins(x, y, eps) > 0)).any())
    assert 0 < int(broken.sum()) < int((model.worst_margins(x, y, eps) < 0).sum())
    assert bool((logit_margin(model(x_adv), y) >= logit_margin(model(x), y)).all())


@pytest.mark.parametrize("name", ["draws", "batch_size"])
def test_noise_that_cannot_be(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=0: expected at least 1"):
        RandomNoise(TinyConv(), eps=EPS, **{name: 0})


def test_gama_is_stronger_than_noise() -> None:
    model = TinyConv(dropout=0.0).eval()
    x = images(40)
    y = model(x).argmax(1)
    noise = RandomNoise(model, eps=EPS, draws=50, generator=seeded())(x, y)
    gama = GAMAPGD(model, eps=EPS, steps=10, generator=seeded())(x, y)
    assert int((model(gama).argmax(1) != y).sum()) > int((model(noise).argmax(1) != y).sum())
