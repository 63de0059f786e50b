"""Our attacks against torchattacks' and foolbox's on the same model, from the same start."""

from typing import Any

import pytest
import torch
from oracles import EPS, TinyConv, images, labels
from torch import Tensor, nn

from nuat.attacks import FGSM, MIFGSM, PGD, TargetedPGD
from nuat.core.threat import L1, L2, Linf

ALPHA, STEPS, BATCH = 2 / 255, 5, 8
CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def model() -> nn.Module:
    return TinyConv().eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return images(BATCH, size=8), labels(BATCH, 4)


@pytest.mark.slow
def test_fgsm_against_torchattacks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.FGSM(model, eps=EPS)(*batch)
    torch.testing.assert_close(FGSM(model, eps=EPS)(*batch), theirs, **CLOSE)


def test_pgd_against_torchattacks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)(*batch)
    ours = PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_pgd_against_torchattacks_from_the_same_random_start(
    model: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    noise = EPS * (2 * torch.rand(batch[0].shape, generator=torch.Generator().manual_seed(9)) - 1)
    monkeypatch.setattr(Linf, "uniform", lambda self, x, generator=None: noise)
    ours = PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS)(*batch)
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(noise))
    theirs = torchattacks.PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=True)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    without = PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)(*batch)
    assert not torch.allclose(ours, without, rtol=0, atol=1e-3)  # the noise was taken


def test_fgsm_against_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox")
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    _, theirs, _ = foolbox.attacks.LinfFastGradientAttack()(peer, *batch, epsilons=EPS)
    torch.testing.assert_close(FGSM(model, eps=EPS)(*batch), theirs, **CLOSE)


def test_pgd_against_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox")
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=ALPHA, steps=STEPS, random_start=False)
    _, theirs, _ = attack(peer, *batch, epsilons=EPS)
    ours = PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(("mu", "steps"), [(1.0, 5), (0.7, 10), (1.0, 1)])
def test_mi_fgsm_against_torchattacks(model: nn.Module, batch: tuple[Tensor, Tensor], mu: float, steps: int) -> None:
    """They divide by the mean instead of the sum of the absolute values: a factor that no sign sees."""
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.MIFGSM(model, eps=EPS, alpha=ALPHA, steps=steps, decay=mu)(*batch)
    torch.testing.assert_close(MIFGSM(model, eps=EPS, alpha=ALPHA, steps=steps, mu=mu)(*batch), theirs, **CLOSE)


@pytest.mark.parametrize(("mu", "steps"), [(0.0, 5), (1.0, 1)])
def test_mi_fgsm_against_foolbox_where_the_definitions_agree(
    model: nn.Module, batch: tuple[Tensor, Tensor], mu: float, steps: int
) -> None:
    """Theirs accumulates the signs of the gradients, not the gradients over their L1 norm as Dong et al. do."""
    foolbox = pytest.importorskip("foolbox")
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.mi_fgsm.LinfMomentumIterativeFastGradientMethod(
        momentum=mu, abs_stepsize=ALPHA, steps=steps
    )
    _, theirs, _ = attack(peer, *batch, epsilons=EPS)
    torch.testing.assert_close(MIFGSM(model, eps=EPS, alpha=ALPHA, steps=steps, mu=mu)(*batch), theirs, **CLOSE)


# L2: torchattacks adds 1e-10 to the gradient's norm unless told otherwise, which shows where the gradient is tiny


def test_l2_pgd_against_torchattacks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.PGDL2(model, eps=0.5, alpha=0.2, steps=STEPS, random_start=False, eps_for_division=0.0)(
        *batch
    )
    ours = PGD(model, eps=0.5, norm="L2", alpha=0.2, steps=STEPS, random_start=False)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_l2_pgd_against_torchattacks_from_the_same_random_start(
    model: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    draw = torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(9))
    noise = 0.2 * draw / torch.linalg.vector_norm(draw, dim=(1, 2, 3), keepdim=True)
    monkeypatch.setattr(L2, "uniform", lambda self, x, generator=None: noise)
    ours = PGD(model, eps=0.5, norm="L2", alpha=0.2, steps=STEPS)(*batch)
    monkeypatch.setattr(Tensor, "normal_", lambda self: self.copy_(draw))
    monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.fill_(0.4))  # of eps: 0.2
    theirs = torchattacks.PGDL2(model, eps=0.5, alpha=0.2, steps=STEPS, random_start=True, eps_for_division=0.0)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_l2_pgd_against_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox")
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=0.2, steps=STEPS, random_start=False)
    _, theirs, _ = attack(peer, *batch, epsilons=0.5)
    ours = PGD(model, eps=0.5, norm="L2", alpha=0.2, steps=STEPS, random_start=False)(*batch)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_l1_pgd_against_foolbox(
    model: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse L1 descent with as many components a step, away from the box, which its projection does not see.

    That projection takes one component too many for its threshold and leaves the ball by up to a tenth of eps, so it is
    replaced by the usual one onto the L1 ball.
    """
    foolbox = pytest.importorskip("foolbox")
    eagerpy = pytest.importorskip("eagerpy")
    eps, alpha, count = 0.5, 0.25, 5
    x, y = 0.3 + 0.4 * batch[0], batch[1]
    noise = L1(eps).uniform(x, torch.Generator().manual_seed(9))
    monkeypatch.setattr(L1, "uniform", lambda self, x, generator=None: noise)
    monkeypatch.setattr("nuat.core.l1.SHARE", 2 * count / x[0].numel())  # a step of eps / 2 takes half as many as eps
    kind = foolbox.attacks.SparseL1DescentAttack

    def project(self: Any, z: Any, x0: Any, epsilon: float) -> Any:
        delta = (z.raw - x0.raw).flatten(1)
        sizes, ranks = delta.abs().sort(dim=1, descending=True).values, torch.arange(1, delta.shape[1] + 1)
        thresholds = (sizes.cumsum(1) - epsilon) / ranks
        kept = (sizes > thresholds).sum(dim=1, keepdim=True)
        moved = delta.sign() * (delta.abs() - thresholds.gather(1, kept - 1)).clamp(min=0.0)
        moved = torch.where(sizes.sum(dim=1, keepdim=True) <= epsilon, delta, moved)
        return eagerpy.astensor(x0.raw + moved.view_as(x0.raw))

    monkeypatch.setattr(kind, "project", project)
    monkeypatch.setattr(kind, "get_random_start", lambda self, x0, epsilon: x0 + eagerpy.astensor(noise))
    quantile = 1.0 - (count - 0.5) / (x[0].numel() - 1)
    attack = kind(quantile=quantile, abs_stepsize=alpha, steps=STEPS, random_start=True)
    _, theirs, _ = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=eps)
    ours = PGD(model, eps=eps, norm="L1", alpha=alpha, steps=STEPS)(x, y)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_targeted_pgd_against_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor], norm) -> None:
    foolbox = pytest.importorskip("foolbox")
    x, y = batch
    target = (y + 1) % 4
    eps, alpha = (EPS, ALPHA) if norm == "Linf" else (0.5, 0.2)
    kind = getattr(foolbox.attacks, f"{norm}ProjectedGradientDescentAttack")
    attack = kind(abs_stepsize=alpha, steps=STEPS, random_start=False)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1))
    _, theirs, _ = attack(peer, x, foolbox.criteria.TargetedMisclassification(target), epsilons=eps)
    ours = TargetedPGD(model, eps=eps, norm=norm, alpha=alpha, steps=STEPS, random_start=False, target=target)(x, y)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_targeted_pgd_against_torchattacks_least_likely(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    x, y = batch
    attack = torchattacks.PGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)
    attack.set_mode_targeted_least_likely(quiet=True)
    ours = TargetedPGD(model, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)(x, y)
    torch.testing.assert_close(ours, attack(x, y), **CLOSE)
