"""Transfer as a black box: what a substitute learns, how its examples are judged, and when they tell nothing."""

import contextlib
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from diagnostics.masked_models import THREAT, Bars, Graphless, Noisy, Quantised, Stepped, bars
from torch import Tensor, nn

from nuat.attacks import MIFGSM, PGD
from nuat.config import ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.diagnostics import Status, Surrogate, Verdict, substitute
from nuat.diagnostics.surrogate import Transferred, check_surrogate, transferred
from nuat.errors import InputError

IMAGES = bars(120)
X, Y = to_float(IMAGES.images), IMAGES.labels
L2 = ThreatConfig(norm="L2", eps=1.6, pgd_alpha=0.4)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitute, "BATCHES", 60)


def learnt(
    model: nn.Module, images: ImageSet | None = None, *, threat: ThreatConfig = THREAT, seed: int = 0
) -> nn.Module:
    images = bars(80) if images is None else images
    found = substitute.learn(model, images, threat=threat, classes=4, seed=seed)
    assert found is not None
    return found.model


def carried(
    model: nn.Module, surrogate: nn.Module, threat: ThreatConfig = THREAT, batch_size: int = 250
) -> Transferred:
    named = Surrogate(surrogate, "theirs")
    return transferred(model, named, X, Y, threat=threat, seed=0, batch_size=batch_size)


@pytest.mark.slow
@pytest.mark.parametrize("threat", [THREAT, L2], ids=lambda threat: threat.norm)
@pytest.mark.parametrize("model", [Quantised(), Stepped(), Graphless()], ids=lambda m: type(m).__name__)
def test_a_substitute_breaks_a_model_that_hides_its_gradients(model: nn.Module, threat: ThreatConfig) -> None:
    found = carried(model, learnt(model, threat=threat), threat)
    assert found.agreement > 0.95
    assert float(found.withstood.double().mean()) < 0.4  # the gradients themselves, being 0, break nothing


@pytest.mark.slow
def test_a_substitute_breaks_nothing_where_nothing_can_be_broken() -> None:
    robust = ThreatConfig(eps=0.1, pgd_alpha=0.05)
    found = carried(Quantised(), learnt(Quantised(), threat=robust), robust)
    assert bool(found.withstood.all())


@pytest.mark.slow
def test_the_substitute_learns_the_models_answers_and_not_the_truth() -> None:
    class Shifted(Bars):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).roll(1, dims=1)

    network = learnt(Shifted())
    assert bool((network(X).argmax(1) == (Y + 1) % 4).double().mean() > 0.95)
    assert not network.training


@pytest.mark.parametrize(("number", "kept"), [(errno.EROFS, True), (errno.EIO, False)])
def test_a_substitute_that_cannot_be_kept_is_no_loss_but_a_broken_disk_is(
    number: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(substitute, "atomic_write", fail)
    with contextlib.nullcontext() if kept else pytest.raises(OSError, match="no"):
        substitute._write(tmp_path / "a.safetensors", "key", nn.Linear(1, 1))


@pytest.mark.slow
def test_the_substitute_is_decided_by_the_seed() -> None:
    torch.manual_seed(1)
    first = learnt(Bars()).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = learnt(Bars()).state_dict()
    assert torch.equal(torch.get_rng_state(), before)  # nothing else's draws are disturbed
    other = learnt(Bars(), seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_the_model_is_asked_for_answers_alone_and_left_as_it_was() -> None:
    class Watched(Bars):
        asked = 0

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            assert not self.training
            assert 0.0 <= float(x.min()) <= float(x.max()) <= 1.0
            Watched.asked += len(x)
            return super().forward(x)

    model = Watched().train()
    learnt(model, bars(100))
    # 100 images give a batch of 64 and one of 36 in turn, each looked at twice
    assert Watched.asked == 30 * 2 * 100
    assert substitute.QUERIES == 2 * 400 * 64
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_what_the_substitute_is_shown_lies_in_the_ball() -> None:
    shown: list[Tensor] = []

    class Watched(Bars):
        def forward(self, x: Tensor) -> Tensor:
            shown.append(x)
            return super().forward(x)

    one = IMAGES.select(torch.tensor([0]))
    for threat in (THREAT, L2):
        shown.clear()
        learnt(Watched(), one, threat=threat)
        moves = torch.cat(shown) - X[:1]
        norms = moves.flatten(1).norm(dim=1) if threat.norm == "L2" else moves.flatten(1).abs().amax(dim=1)
        assert float(norms.max()) <= threat.eps + 1e-6
        assert float(norms.max()) > 0.8 * threat.eps
        assert float(norms.min()) < 0.3 * threat.eps


@pytest.mark.parametrize("images", [None, IMAGES.select(torch.arange(0)), ImageSet(IMAGES.images[:, :, :3], Y)])
def test_no_substitute_without_images_to_learn_from(images: ImageSet | None) -> None:
    assert substitute.learn(Bars(), images, threat=THREAT, classes=4, seed=0) is None


@pytest.mark.slow
def test_what_is_carried_over_is_the_surrogates_attack() -> None:
    surrogate = nn.Sequential(nn.AvgPool2d(1), learnt(Bars()))
    by_hand = MIFGSM(surrogate, eps=0.25, steps=10, mu=1.0)(X, Y)
    for batch_size in (50, 250):
        withstood = carried(Bars(), surrogate, batch_size=batch_size).withstood
        assert torch.equal(withstood, Bars()(by_hand).argmax(1) == Y)
    assert float((surrogate(by_hand).argmax(1) != Y).double().mean()) > 0.0


def test_in_l2_the_attack_is_pgd(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PGD] = []
    perturb = PGD.perturb

    def watched(attack: PGD, x: Tensor, y: Tensor) -> Tensor:
        made.append(attack)
        return perturb(attack, x, y)

    monkeypatch.setattr(PGD, "perturb", watched)
    carried(Bars(), Bars(), L2)
    (attack,) = made
    assert (attack.norm, attack.eps, attack.alpha * attack.steps) == ("L2", 1.6, pytest.approx(2.5 * 1.6))


class Constant(nn.Module):
    """Says 0 of every image, with a gradient that leads nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        flat: Tensor = (
            nn.functional.one_hot(torch.zeros(len(x), dtype=torch.int64), 4) + 0.0 * x.sum(dim=(1, 2, 3))[:, None]
        )
        return flat


def test_the_agreement_that_is_needed() -> None:
    """Three fifths, and half of what the commonest answer leaves."""
    found = carried(Bars(), Bars())
    assert (found.agreement, found.needed) == (1.0, 0.625)
    assert carried(Bars(), Constant()).agreement == 0.25
    constant = carried(Constant(), Bars())
    assert (constant.agreement, constant.needed) == (0.25, 1.0)
    many = Transferred(withstood=torch.ones(1), agreement=0.59, needed=0.6, source="s")
    assert many.qualify(verdict(Status.PASS)).status is Status.INCONCLUSIVE


def verdict(status: Status) -> Verdict:
    return Verdict(check="c", status=status, measured={"n": 3}, threshold="t", meaning="m")


@pytest.mark.parametrize("status", list(Status))
def test_a_poor_surrogate_allows_no_pass_but_a_fail_stands(status: Status) -> None:
    def told(agreement: float) -> Verdict:
        outcome = Transferred(withstood=torch.ones(1), agreement=agreement, needed=0.6, source="theirs.py:f")
        return outcome.qualify(verdict(status))

    grounds: dict[str, Any] = {"n": 3, "surrogate": "theirs.py:f", "agreement_needed": 0.6}
    good = told(0.6)
    assert (good.status, good.meaning) == (status, "m")
    assert good.measured == {**grounds, "agreement": 0.6}
    poor = told(0.3)
    assert poor.measured == {**grounds, "agreement": 0.3}
    if status is Status.FAIL:
        assert poor.status is Status.FAIL
    else:
        assert poor.status is Status.INCONCLUSIVE
        assert "30%" in poor.meaning
        assert "60%" in poor.meaning
        assert "--surrogate" in poor.meaning


def test_a_surrogate_must_fit() -> None:
    check_surrogate(Surrogate(Bars(), "s"), X[:1], 4)
    with pytest.raises(InputError, match=r"surrogate theirs cannot .* returns 3 logits, but the images have 4 classes"):
        check_surrogate(Surrogate(Bars(3), "theirs"), X[:1], 4)
    with pytest.raises(InputError, match=r"surrogate theirs cannot .* the model fails on images of 1 x 8 x 8"):
        check_surrogate(Surrogate(nn.Conv2d(3, 4, 1), "theirs"), X[:1], 4)


def test_logits_that_are_not_finite_are_no_robustness() -> None:
    class Broken(Bars):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / (x == X).all()

    with pytest.raises(InputError, match="infinite or NaN under transfer"):
        carried(Broken(), Bars())


@pytest.mark.slow
def test_a_random_model_is_learnt_too() -> None:
    torch.manual_seed(0)
    assert carried(Noisy(), learnt(Noisy())).agreement > 0.8
