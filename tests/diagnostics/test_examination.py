"""The whole examination on small models: honest ones do not fail, masked ones fail for the right reason."""

import dataclasses
import errno
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
from nuat.diagnostics import Examination, Status, Surrogate, Verdict, examination, examine, strength, substitute
from nuat.diagnostics.examination import seconds_needed
from nuat.errors import InputError

pytest.importorskip("pyautoattack")

GRADIENTS = "gradients neither vanish nor explode"
LINEAR = "the loss is locally linear"
CARRIED = "transfer finds nothing new"
CARRIED_ALONE = "transfer is weaker than white-box attacks"
QUERIES = "Square finds nothing new"
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


@pytest.mark.slow
def test_an_honest_model_does_not_fail(honest: tuple[nn.Module, Examination]) -> None:
    model, found = honest
    assert failures(found) == set()
    told = statuses(found)
    assert len(told) == len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2  # no name twice
    assert found.left_out == ()
    for check in (CARRIED, CARRIED_ALONE):  # so few images exclude no gap where there is none
        (measured,) = (v.measured for v in found.verdicts if v.check == check)
        assert (measured["only_weaker_breaks"], measured["agreement"]) == (0, 1.0)
    for check in (RANDOM, LINEAR, PLAIN, UNBOUNDED, "Square is weaker than white-box attacks"):
        assert told[check] is Status.PASS, check
    assert [result.name for result in found.evaluation.results] == list(strength.ATTACKS)
    assert found.evaluation.accuracy("clean") == 1.0
    assert found.evaluation.accuracy("apgd-ce") < 0.7
    assert found.evaluation.eps == THREAT.eps
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
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
    assert {"apgd-t", "fgsm", "gama-10"} <= names
    assert "iterative attacks beat single-step ones" in told
    assert found.left_out == ()  # nothing of the diagnosis lacks L2
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
def test_a_random_model_without_a_finite_gradient_has_every_verdict() -> None:
    class Drawn(Exploding):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits + 2.0 * torch.randn_like(logits)

    found = fails(Drawn(), RANDOM, GRADIENTS)
    assert len(found.verdicts) == 4 + len(strength.COMPARISONS) + 2


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


@pytest.mark.slow
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
def test_an_examination_that_is_cut_off_again_and_again_ends_with_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off after each part: one without a bound, the substitute, three radii, two starts, two attacks."""
    few_attacks(monkeypatch, "clean", "pgd-10", "apgd-ce", checks=STARTS)
    monkeypatch.setattr("nuat.evaluation.job_runner._SECONDS_BETWEEN_STEPS", float("inf"))
    whole = examined(Bars(), batch_size=20).to_json()
    done: list[tuple[str, float]] = []

    def cut(name: str, finished: float, total: int, step: str = "", /) -> None:
        if (name, finished) in done:
            return
        if name != "transfer":  # a few passes, made again
            done.append((name, finished))
        if finished == total and name not in ("clean", "transfer"):
            raise CutError

    kept: list[int] = []
    for _ in range(20):
        try:
            found = examined(Bars(), batch_size=20, state_folder=tmp_path, progress=cut)
        except CutError:
            kept.append(len(list(tmp_path.iterdir())))
        else:
            break
    assert kept == sorted(kept)
    assert len(kept) == 9
    assert list(tmp_path.iterdir()) == []
    names = {name for name, _ in done}
    assert names == {
        *("pgd-10 without a bound", "substitute", "clean", "pgd-10", "apgd-ce"),
        *(f"pgd-10 at eps {eps}" for eps in ("0.0625", "0.125", "0.5")),
        *("pgd-10 from start 2", "pgd-10 from start 3"),
    }
    assert [v["status"] for v in found.to_json()["verdicts"]] == [v["status"] for v in whole["verdicts"]]
    assert [v["measured"] for v in found.to_json()["verdicts"]] == [v["measured"] for v in whole["verdicts"]]


@pytest.mark.slow
def test_what_is_kept_is_not_attacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_attacks(monkeypatch, "clean", "pgd-10", "apgd-ce", checks=STARTS)

    def cut(name: str, done: float, total: int, step: str = "", /) -> None:
        if name == "apgd-ce":
            raise CutError

    with pytest.raises(CutError):
        examined(Bars(), batch_size=20, state_folder=tmp_path, progress=cut)
    (kept,) = tmp_path.glob("diagnose-substitute.partial.safetensors")
    attacked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("nuat.attacks.PGD.trajectory", lambda *_: attacked.append("pgd"))
        patch.setattr("nuat.diagnostics.substitute._train", lambda *_, **__: attacked.append("substitute"))
        found = examined(Bars(), batch_size=20, state_folder=tmp_path)
    assert attacked == []
    assert found.evaluation.accuracy("apgd-ce") < 0.7
    assert not kept.exists()


@pytest.mark.slow
def test_a_substitute_of_another_model_is_trained_anew(tmp_path: Path) -> None:
    file = tmp_path / "kept.safetensors"
    arguments = {"threat": THREAT, "classes": CLASSES, "seed": 0, "state_path": file}

    def learnt(model: nn.Module, **changes: object) -> bytes:
        found = substitute.learn(model, bars(80), **{**arguments, **changes})  # type: ignore[arg-type]
        assert found is not None
        return torch.cat([p.flatten() for p in found.model.parameters()]).numpy().tobytes()

    first = learnt(Bars())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(substitute, "_train", lambda *_, **__: pytest.fail("it is kept"))
        assert learnt(Bars()) == first
    assert learnt(Bars(scale=-10.0)) != first
    assert learnt(Bars(scale=-10.0), seed=1) != learnt(Bars())
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])  # cut off
    assert learnt(Bars()) == first
    assert file.read_bytes() == whole


def test_the_time_needed_grows_with_the_images_and_is_little_for_a_quick_examination() -> None:
    asked = {"threat": THREAT, "batch_size": 20, "learns": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuat.diagnostics.examination.time.perf_counter", iter(range(100)).__next__)  # a second a pass
        few, many, quick, learning, union = (
            seconds_needed(Bars(), bars(), **{**asked, **changes})  # type: ignore[arg-type]
            for changes in (
                {"n": 10, "quick": False},
                {"n": 20, "quick": False},
                {"n": 20, "quick": True},
                {"n": 20, "quick": False, "learns": True},
                {"n": 20, "quick": False, "threat": dataclasses.replace(THREAT, also="L2:0.5")},
            )
        )
    assert many == pytest.approx(2 * few)
    assert 0 < quick < many / 3
    assert 1.5 * many < union < 2.5 * many
    assert learning == pytest.approx(many + substitute.QUERIES / 3 / 32)


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


@pytest.mark.slow
def test_a_union_is_examined_ball_by_ball(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examination.strength, "COMPARISONS", examination.strength.COMPARISONS[:1])
    monkeypatch.setattr(examination.strength, "ATTACKS", ("clean", "fgsm", "pgd-10"))
    union = dataclasses.replace(THREAT, also="L2:0.5")
    told: set[str] = set()
    kept: set[str] = set()

    def progress(name: str, *_: object) -> None:
        told.add(name.partition(":")[0])
        kept.update(path.name.split("-")[1] for path in examination.finished_parts(tmp_path, quick=False))

    keywords = {"n": 8, "state_folder": tmp_path, "progress": progress}
    found = examination.examine(Quantised(), bars(), threat=union, **keywords)  # type: ignore[arg-type]
    assert (told, kept) == ({"Linf", "L2"}, {"Linf", "L2"})
    assert not examination.finished_parts(tmp_path, quick=False)
    alone = [examination.examine(Quantised(), bars(), threat=ball, n=8) for ball in union.parts]
    assert [v.check for v in found.verdicts] == [
        f"{norm}: {v.check}" for norm, one in zip(("Linf", "L2"), alone, strict=True) for v in one.verdicts
    ]
    assert [v.status for v in found.verdicts] == [v.status for one in alone for v in one.verdicts]
    assert (found.evaluation.also, found.evaluation.eps) == ("L2:0.5", THREAT.eps)
    for ball, one in zip(found.evaluation.by_ball, alone, strict=True):
        assert [(r.name, r.correct.tolist()) for r in ball.results] == [
            (r.name, r.correct.tolist()) for r in one.evaluation.results
        ]


def test_a_substitute_that_cannot_be_kept_is_learnt_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(substitute, "BATCHES", 2)
    monkeypatch.setattr(substitute, "atomic_write", refused)
    file = tmp_path / "kept.safetensors"
    assert substitute.learn(Bars(), bars(8), threat=THREAT, classes=CLASSES, seed=0, state_path=file) is not None
    assert not file.exists()
