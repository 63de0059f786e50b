"""NuAT equals the slow Algorithm 1."""

import pytest
import torch
from cases import CLASSES
from defenses.algorithm1_equality import GAUSSIAN, RAMP, Fast, assert_equal, both, gaussian, make_epochs
from oracles import TinyConv
from reference import algorithm1

from nuat.core.schedules import Ramp
from nuat.defenses import NuAT, NuAT2
from nuat.defenses.nuat import regularised_loss
from nuat.defenses.training_passes import CleanPass


@pytest.mark.parametrize("alpha", [None, 0.08])
@pytest.mark.parametrize("passes", ["one", "authors"])
def test_equals_the_slow_one(passes: str, alpha: float | None) -> None:
    fast, slow = both(NuAT(lam=RAMP, passes=passes, alpha=alpha), variant="nuat", passes=passes)
    assert_equal(fast, slow)
    assert [m["lam"] for m in fast.metrics] == pytest.approx([0] * 3 + [2.5] * 3 + [5] * 3)


@pytest.mark.parametrize("batches", ["every", "never"])
def test_the_batches_with_a_regularised_attack(batches: str) -> None:
    assert_equal(*both(NuAT(lam=RAMP, regularised_attack=batches), variant="nuat", nuclear_batches=batches))


@pytest.mark.slow
def test_the_frobenius_norm_in_attack_and_loss() -> None:
    fast, slow = both(NuAT(lam=RAMP, norm="frobenius"), variant="nuat", norm=algorithm1.frobenius_norm)
    assert_equal(fast, slow)
    other, _ = both(NuAT(lam=RAMP), variant="nuat")
    assert fast.losses[3:] != pytest.approx(other.losses[3:], rel=1e-3)


@pytest.mark.parametrize("passes", ["one", "authors"])
def test_the_scale_of_gaussian_matrices_in_attack_and_loss(passes: str) -> None:
    fast, slow = both(NuAT(lam=RAMP, passes=passes, scale="gaussian"), variant="nuat", passes=passes, norm=GAUSSIAN)
    assert_equal(fast, slow)
    assert [m["lam"] for m in fast.metrics] == pytest.approx([0] * 3 + [2.5] * 3 + [5] * 3)
    assert [float(m["rank"]) for m in fast.metrics] == pytest.approx(slow.ranks)


def test_the_frobenius_norm_has_a_scale_of_its_own() -> None:
    norm = gaussian(algorithm1.frobenius_norm, lambda m, n: (n / m) ** 0.5)
    assert_equal(*both(NuAT(lam=RAMP, norm="frobenius", scale="gaussian"), variant="nuat", norm=norm))


@pytest.mark.parametrize("norm", ["nuclear", "frobenius"])
def test_the_rank_is_recorded(norm: str) -> None:
    """The same two figures whichever norm is trained against."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).double().train()
    x, y = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    x_adv = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    metrics = regularised_loss(model, x, y, x_adv, None, 1.0, norm).metrics
    s = torch.linalg.svdvals((model(x_adv) - model(x)).detach())
    assert float(metrics["nuclear"]) == pytest.approx(float(s.sum()) / 5)
    assert float(metrics["rank"]) == pytest.approx(float(s.sum() ** 2 / (s**2).sum()))
    assert 1.0 < float(metrics["rank"]) < 3.0
    same = regularised_loss(model, x, y, x, None, 1.0, norm)
    assert float(same.metrics["rank"]) == 0.0


def test_the_clean_batch_has_two_thirds_of_the_running_statistics() -> None:
    """Two thirds of the weight that an update adds: with momentum 0.1 the authors' order gives 0.181 of 0.271."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2)).train()
    model[0].running_mean.zero_()
    clean = CleanPass(model, torch.ones(2, 1, 1, 1))
    clean.attacked(torch.zeros(2, 1, 1, 1))
    assert float(model[0].running_mean) == pytest.approx(0.181)


@pytest.mark.parametrize("passes", ["one", "authors"])
def test_the_variants_differ(passes: str) -> None:
    """That the equalities above are not those of things that are all the same."""
    data = make_epochs(3)
    runs = {
        "nuat": Fast(NuAT(lam=RAMP, passes=passes), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "nuat2": Fast(NuAT2(lam=RAMP), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "wa": Fast(NuAT2(lam=RAMP, attack_tau=0.99), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "no lam": Fast(NuAT(lam=Ramp(peak=0.0)), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
    }
    last = {name: run.losses[-1] for name, run in runs.items()}
    assert len({round(loss, 6) for loss in last.values()}) == len(last)


def test_the_defaults_are_the_papers() -> None:
    assert NuAT().lam == Ramp(peak=4.0, until=1.0)
    assert NuAT().alpha is None
    assert NuAT().passes == "one"
    assert NuAT().regularised_attack == "odd"
