"""The whole examination on small models: honest ones do not fail, masked ones fail for the right reason."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from masked_models import (
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
    shorten,
    statuses,
)
from torch import Tensor, nn

from nuat.diagnostics import Examination, Status, examination, strength
from nuat.errors import InputError

pytest.importorskip("pyautoattack")

GRADIENTS = "gradients neither vanish nor explode"
LINEAR = "the loss is locally linear"
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
    found = fails(Quantised(), GRADIENTS, QUERIES, UNBOUNDED)
    assert found.evaluation.accuracy("gama-10") > found.evaluation.accuracy("square-200")


def test_logits_that_are_saturated() -> None:
    """The cross-entropy's gradient is 0 in float32; an attack that is blind to the scale sees through it."""
    found = fails(Bars(scale=1e4), GRADIENTS, PLAIN, UNBOUNDED)
    assert RANDOM not in failures(found)
    assert found.evaluation.accuracy("apgd-t") < found.evaluation.accuracy("pgd-50")


def test_noise_in_the_model() -> None:
    found = fails(Noisy(), RANDOM)
    assert GRADIENTS not in failures(found)


@pytest.mark.parametrize("model", [Stepped(), Graphless(), Unconnected(), Exploding()], ids=lambda m: type(m).__name__)
def test_models_that_no_attack_can_climb(model: nn.Module) -> None:
    """Attacks return their starts instead of failing, and every verdict is given."""
    found = fails(model, GRADIENTS, UNBOUNDED)
    assert len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2
    json.dumps(found.to_json(), allow_nan=False)


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
    kept = json.loads(state.read_text())["jobs"]
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
