"""Our attacks against torchattacks' and foolbox's on the same model, from the same start."""

import pytest
import torch
from oracles import EPS, TinyConv, images, labels
from torch import Tensor, nn

from nuat.attacks import FGSM, PGD
from nuat.threat import Linf

ALPHA, STEPS, BATCH = 2 / 255, 5, 8
CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def model() -> nn.Module:
    return TinyConv().eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return images(BATCH, size=8), labels(BATCH, 4)


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
