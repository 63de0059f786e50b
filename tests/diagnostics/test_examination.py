"""The whole examination on small models: honest ones do not fail, masked ones fail for the right reason."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diagnostics.masked_models import (
    CLASSES,
    THREAT,
    Bars,
    Exploding,
    Graphless,
    N,
    Noisy,
    Quantised,
    Stepped,
    Unconnected,
    bars,
    examined,
    saturated,
    shorten,
    statuses,
)
from torch import Tensor, nn

from nuat.config import ThreatConfig
from nuat.data import ImageSet
from nuat.diagnostics import Examination, Status, Surrogate, Verdict, examination, examine, strength
from nuat.errors import InputError

pytest.importorskip("pyautoattack")

GRADIENTS = "gradients neither vanish nor explode"
LINEAR = "the loss is locally linear"
CARRIED = "transfer adds nothing to the white-box attacks"
CARRIED_ALONE = "transfer is weaker than white-box attacks"
QUERIES = "Square adds nothing to the white-box attacks"
RANDOM = "repeated forward passes agree"
STARTS = "more restarts do not help"
PLAIN = "PGD-50 is not far from AutoAttack"
UNBOUNDED = "an unbounded attack succeeds"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def failures(found: Examination) -> set[str]:
    assert found.failed == any(status is Status.FAIL for status in statuses(found).values())
    return {check for check, status in statuses(found).items() if status is Status.FAIL}


def fails(model: nn.Module, *checks: str) -> Examination:
    """Examine a model that must fail at least these checks."""
    found = examined(model)
    assert set(checks) <= failures(found)
    return found


@pytest.fixture(scope="module")
def honest() -> tuple[nn.Module, Examination]:
    model = Bars().train()
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return model, examined(model)


def few_attacks(patch: pytest.MonkeyPatch, *attacks: str, checks: str) -> None:
    patch.setattr(strength, "COMPARISONS", tuple(c for c in strength.COMPARISONS if c.check == checks))
    patch.setattr(strength, "ATTACKS", attacks)


def test_an_honest_model_does_not_fail(honest: tuple[nn.Module, Examination]) -> None:
    model, found = honest
    assert failures(found) == set()
    told = statuses(found)
    assert len(told) == len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2  # no name twice
    assert found.left_out == ()
    for check in (CARRIED, CARRIED_ALONE):  # so few images exclude no gap where there is none
        (measured,) = (v.measured for v in found.verdicts if v.check == check)
        assert (measured["only_weaker_breaks"], measured["agreement"]) == (0, 1.0)
    for check in (RANDOM, LINEAR, PLAIN, UNBOUNDED, "a black-box attack is weaker than white-box ones"):
        assert told[check] is Status.PASS, check
    assert [result.name for result in found.evaluation.results] == list(strength.ATTACKS)
    assert found.evaluation.accuracy("clean") == 1.0
    assert found.evaluation.accuracy("apgd-ce") < 0.7
    assert found.evaluation.eps == THREAT.eps
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pixels_that_are_rounded() -> None:
    """PGD stands still; queries, which need no gradient, break what it leaves."""
    found = fails(Quantised(), GRADIENTS, QUERIES, UNBOUNDED, CARRIED)
    assert found.evaluation.accuracy("gama-10") > found.evaluation.accuracy("square-200")


@pytest.mark.slow
def test_logits_that_are_saturated() -> None:
    """The cross-entropy's gradient is 0 in float32; an attack that is blind to the scale sees through it."""
    found = fails(saturated(), GRADIENTS, PLAIN, UNBOUNDED)
    assert RANDOM not in failures(found)
    assert found.evaluation.accuracy("apgd-t") < found.evaluation.accuracy("pgd-50")


@pytest.mark.slow
def test_noise_in_the_model() -> None:
    found = fails(Noisy(), RANDOM)
    assert GRADIENTS not in failures(found)


@pytest.mark.slow
def test_a_random_model_fails_for_its_randomness_alone() -> None:
    """Its draws break images under any attack that is tried once more; that is not held against its gradients."""

    class Drawn(Bars):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits + 2.0 * torch.randn_like(logits)

    torch.manual_seed(0)
    found = fails(Drawn(), RANDOM)
    assert failures(found) == {RANDOM}
    told = {verdict.check: verdict for verdict in found.verdicts}
    assert told[STARTS].status is Status.INCONCLUSIVE
    assert told[STARTS].measured["changed_by_draws"] > 0.2
    assert told[STARTS].measured["only_weaker_breaks"] > 0


@pytest.mark.slow
def test_an_activation_without_a_gradient() -> None:
    """A network that learns the model's answers finds what its gradients hide."""
    found = fails(Stepped(), GRADIENTS, UNBOUNDED, CARRIED, CARRIED_ALONE)
    told = {verdict.check: verdict for verdict in found.verdicts}
    assert told[CARRIED].measured["agreement"] > 0.9
    assert "trained on the model's answers" in told[CARRIED].measured["surrogate"]
    assert found.evaluation.accuracy("pgd-10") > 0.9


def only_transfer(patch: pytest.MonkeyPatch) -> None:
    few_attacks(patch, "clean", "pgd-10", checks=CARRIED)
    (check,) = strength.COMPARISONS
    patch.setattr(strength, "COMPARISONS", (dataclasses.replace(check, stronger=("pgd-10",)),))


@pytest.mark.slow
def test_a_surrogate_takes_the_place_of_the_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    only_transfer(monkeypatch)

    def carried(**keywords: object) -> Verdict:
        return next(v for v in examined(Quantised(), **keywords).verdicts if v.check == CARRIED)

    given = carried(surrogate=Surrogate(Bars(), "theirs"))
    assert (given.status, given.measured["surrogate"]) == (Status.FAIL, "theirs")
    poor = carried(surrogate=Surrogate(Bars(scale=-10.0), "theirs"))
    assert (poor.status, poor.measured["agreement"]) == (Status.INCONCLUSIVE, 0.0)
    without = carried(training=None)
    assert (without.status, without.measured) == (Status.INCONCLUSIVE, {})
    assert "there is no surrogate" in without.meaning
    few = carried(training=bars(1))  # all that it learns is one class
    assert (few.status, few.measured["agreement"]) == (Status.INCONCLUSIVE, 0.25)
    with pytest.raises(InputError, match="the surrogate theirs cannot stand in"):
        carried(surrogate=Surrogate(Bars(3), "theirs"))


def test_images_that_are_misclassified_as_they_are_count_as_broken_by_transfer_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they do in every other attack; else a surrogate that puts them right would seem the weaker by them."""
    few_attacks(monkeypatch, "clean", "pgd-10", checks=CARRIED_ALONE)
    (check,) = strength.COMPARISONS
    monkeypatch.setattr(strength, "COMPARISONS", (dataclasses.replace(check, stronger=("pgd-10",)),))
    images = bars()
    wrong = ImageSet(images.images, torch.where(torch.arange(N) < 10, (images.labels + 1) % CLASSES, images.labels))
    told = examined(Bars(), wrong, surrogate=Surrogate(Bars(scale=-10.0), "contrary")).verdicts
    (gap,) = (v.measured for v in told if v.check == CARRIED_ALONE)
    assert gap["only_stronger_breaks"] == N - 10


@pytest.mark.slow
def test_an_honest_model_in_l2() -> None:
    threat = ThreatConfig(norm="L2", eps=1.0, pgd_alpha=0.4)
    found = examine(Bars(), bars(), threat=threat, n=None, training=bars(80))
    told = statuses(found)
    assert failures(found) == set()
    assert told[UNBOUNDED] is told[LINEAR] is Status.PASS
    assert (found.evaluation.norm, found.evaluation.eps) == ("L2", 1.0)
    names = {result.name for result in found.evaluation.results}
    assert "apgd-t" in names
    assert not {"fgsm", "gama-10"} & names
    assert "iterative attacks are at least as strong as single-step ones" not in told
    assert len(found.left_out) == 3
    assert found.to_json()["left_out"] == list(found.left_out)
    by_eps = next(v.measured["accuracy_by_eps"] for v in found.verdicts if v.check == "accuracy falls with eps")
    assert list(by_eps) == ["0.25", "0.5", "1", "2", "4"]  # a ball of radius 8 holds every image
    assert by_eps["0.25"] == 1.0
    assert by_eps["4"] == 0.0
    assert "eps = 8" in next(v.threshold for v in found.verdicts if v.check == UNBOUNDED)


@pytest.mark.slow
def test_a_masked_model_in_l2() -> None:
    threat = ThreatConfig(norm="L2", eps=2.0, pgd_alpha=0.4)
    found = examine(Quantised(), bars(), threat=threat, n=None, training=bars(80))
    assert {GRADIENTS, UNBOUNDED, CARRIED, CARRIED_ALONE} <= failures(found)


@pytest.mark.slow
@pytest.mark.parametrize("model", [Stepped(), Graphless(), Unconnected(), Exploding()], ids=lambda m: type(m).__name__)
def test_models_that_no_attack_can_climb(model: nn.Module) -> None:
    """Attacks return their starts instead of failing, and every verdict is given."""
    found = fails(model, GRADIENTS, UNBOUNDED)
    assert len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_models_of_few_classes(classes: int) -> None:
    found = examined(Bars(classes), bars(classes=classes))
    names = [result.name for result in found.evaluation.results]
    assert "apgd-t" not in names
    assert ("apgd-dlr" in names) == (classes == 3)
    assert GRADIENTS not in failures(found)
    assert len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2


def test_the_verdicts_as_json_rest_on_the_evaluation(honest: tuple[nn.Module, Examination]) -> None:
    found = honest[1]
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert sum(values["counts"].values()) == len(values["verdicts"]) == len(found.verdicts)
    assert values["counts"]["FAIL"] == 0
    assert {row["name"] for row in values["evaluation"]["results"]} == set(strength.ATTACKS)
    curve = next(
        v["measured"]["accuracy_by_eps"] for v in values["verdicts"] if v["check"] == "accuracy falls with eps"
    )
    assert list(curve) == ["0.0625", "0.125", "0.25", "0.5"]  # a quarter of eps to twice; four times is all there is
    assert curve["0.25"] == found.evaluation.accuracy("pgd-10")
    assert curve["0.0625"] > curve["0.25"]


def test_starts_are_different_draws(honest: tuple[nn.Module, Examination], monkeypatch: pytest.MonkeyPatch) -> None:
    """PGD from one start is as good as from several on a linear model, where each climbs to the same corner."""
    told = {verdict.check: verdict for verdict in honest[1].verdicts}
    assert told[STARTS].measured["only_weaker_breaks"] == 0
    few_attacks(monkeypatch, "clean", "pgd-10", checks=STARTS)

    class Fragile(nn.Module):
        """Right except where one pixel is in one of many narrow bands, with no gradient into them."""

        def __init__(self) -> None:
            super().__init__()
            self.bars = Bars()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.bars(x.detach()) + 0.0 * x.sum(dim=(1, 2, 3))[:, None]
            band = ((x[:, 0, 0, 0] * 50).floor().long() % 2 == 0)[:, None]
            return torch.where(band, logits, logits.roll(1, dims=1))

    told = {verdict.check: verdict for verdict in examined(Fragile()).verdicts}
    assert told[STARTS].measured["only_weaker_breaks"] > 0


class CutError(Exception):
    """Ends an examination."""


@pytest.mark.slow
def test_an_examination_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_attacks(monkeypatch, "clean", "pgd-10", "apgd-ce", "fab-t", checks=STARTS)
    whole = examined(Bars(), batch_size=15).to_json()
    longest: list[str] = []

    def cut(name: str, done: int, total: int) -> None:
        longest.append(name)
        if name == "fab-t" and done == 30:  # two of three batches of the longest part are done
            raise CutError

    with pytest.raises(CutError):
        examined(Bars(), batch_size=15, state_folder=tmp_path, progress=cut)
    (state,) = tmp_path.iterdir()
    assert state.name == f"diagnose-{THREAT.eps:g}-0.partial.json"
    kept = {key.split()[0]: batches for key, batches in json.loads(state.read_text())["jobs"].items()}
    assert len(kept["apgd-ce"]) == 3
    assert len(kept["fab-t"]) == 2

    attacked: list[tuple[str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuat.attacks.AutoAttack.perturb", counted(attacked))
        found = examined(Bars(), batch_size=15, state_folder=tmp_path).to_json()
    assert [name for name, _ in attacked] == ["fab-t"]  # and nothing that was finished
    assert [v["status"] for v in found["verdicts"]] == [v["status"] for v in whole["verdicts"]]
    assert [r["correct"] for r in found["evaluation"]["results"]] == [
        r["correct"] for r in whole["evaluation"]["results"]
    ]
    assert list(tmp_path.iterdir()) == []


def counted(attacked: list[tuple[str, int]]):
    from nuat.attacks import AutoAttack

    perturb = AutoAttack.perturb

    def watched(attack: AutoAttack, x: Tensor, y: Tensor) -> Tensor:
        attacked.append((",".join(attack.attacks or ()), len(x)))
        return perturb(attack, x, y)

    return watched


def test_what_cannot_be_examined_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match="n=41: expected 1 to 40"):
        examined(Bars(), n=N + 1)
    with pytest.raises(InputError, match="batch_size=0"):
        examined(Bars(), batch_size=0)
    with pytest.raises(InputError, match="returns 3 logits, but the images have 4 classes"):
        examined(Bars(3), bars())


def test_a_large_radius_is_not_enlarged_past_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination.strength, "COMPARISONS", ())
    monkeypatch.setattr(examination.strength, "ATTACKS", ("clean", "pgd-10"))
    threat = dataclasses.replace(THREAT, eps=0.5)
    found = examination.examine(Bars(), bars(), threat=threat, n=8)
    curve = next(v.measured["accuracy_by_eps"] for v in found.verdicts if v.check == "accuracy falls with eps")
    assert list(curve) == ["0.125", "0.25", "0.5"]
    assert found.evaluation.n == 8
