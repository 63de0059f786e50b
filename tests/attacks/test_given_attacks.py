"""Attacks given as objects and functions: their names, their verdicts, and what is refused."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import THREAT, evaluate, linear_case, random_images, tiny_case
from torch import Tensor

import nuat
from nuat.attacks import FGSM, PGD, Attack, AutoAttack, Ensemble, Transfer
from nuat.config import ModelConfig, ThreatConfig
from nuat.data import ImageSet, to_float
from nuat.errors import InputError, NonFiniteError
from nuat.evaluation.comparison import compare
from nuat.models import build
from nuat.models.folding import folded
from nuat.records.evaluations import read_evaluation, read_evaluations

EPS = THREAT.eps


def darker(x: Tensor, y: Tensor) -> Tensor:
    return (x - EPS).clamp(0, 1)


def noisy(x: Tensor, y: Tensor) -> Tensor:
    return (x + EPS * torch.rand_like(x)).clamp(0, 1)


def fgsm(x: Tensor, y: Tensor) -> Tensor:
    return x


class Brighter:
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        x.add_(EPS).clamp_(0, 1)  # in place, as attacks of strangers may
        return x


def test_an_attack_object_has_the_verdicts_of_its_name() -> None:
    model, images = tiny_case()
    pgd = PGD(model, eps=EPS, alpha=THREAT.pgd_alpha, steps=3, random_start=False)
    found = evaluate(model, images, ("fgsm", FGSM(model, eps=EPS), pgd), threat=THREAT, batch_size=25)
    by_name, as_object, other = found.results
    assert torch.equal(by_name.correct, as_object.correct)
    assert (by_name.forwards, by_name.backwards) == (as_object.forwards, as_object.backwards)
    assert [result.name for result in found.results] == ["fgsm", "FGSM", "PGD"]
    assert other.settings == {
        "own": "nuat.attacks.pgd.PGD",
        "eps": EPS,
        "norm": "Linf",
        "generator": None,
        "alpha": THREAT.pgd_alpha,
        "steps": 3,
        "random_start": False,
        "restarts": 1,
    }


def test_a_function_gets_copies_and_its_examples_decide() -> None:
    model, images = tiny_case()
    found = nuat.evaluate(model, images, [darker, Brighter(), lambda x, y: x], threat=THREAT, batch_size=25)
    x = images.images.float() / 255
    with torch.no_grad():
        for result, x_adv in zip(found.results, (darker(x, x), (x + EPS).clamp(0, 1), x), strict=True):
            assert torch.equal(
                result.correct, (model(x).argmax(1) == images.labels) & (model(x_adv).argmax(1) == images.labels)
            )
    assert [result.name for result in found.results] == ["darker", "Brighter", "lambda"]
    assert [result.forwards for result in found.results] == [None] * 3
    assert all(result.seconds is not None for result in found.results)
    assert "darker" in str(found)


def test_a_record_of_given_attacks_is_read_and_shown(tmp_path: Path) -> None:
    model, images = tiny_case()
    found = evaluate(model, images, ["clean", darker, PGD(model, eps=EPS, steps=2)], threat=THREAT)
    found.save(tmp_path / "evaluation.json")
    again = read_evaluation(tmp_path / "evaluation.json")
    assert again.to_json() == found.to_json()
    ((file,), broken) = read_evaluations(tmp_path, {})
    assert [one.attack for one in file.measurements()] == ["clean", "darker", "PGD", "worst-case"]
    assert (broken, file.evaluation.caveats) == ({}, ())
    (difference, *_) = compare(found, again)
    assert difference.attack == "clean"


def test_own_attacks_are_seeded_batch_by_batch() -> None:
    model, images, _ = linear_case(200)
    wide = ThreatConfig(eps=EPS, pgd_alpha=EPS / 4)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = evaluate(model, images, [noisy, PGD(model, eps=EPS, steps=1)], threat=wide, batch_size=50)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = evaluate(model, images, [noisy, PGD(model, eps=EPS, steps=1)], threat=wide, batch_size=50)
    for one, other in zip(first.results, again.results, strict=True):
        assert torch.equal(one.correct, other.correct)


def test_names_are_told_apart_from_the_catalogue_and_from_each_other() -> None:
    model, images = tiny_case(12)
    found = evaluate(model, images, [fgsm, fgsm, "fgsm", partial(darker), partial(darker)], threat=THREAT)
    assert [one.name for one in found.results] == ["fgsm (2)", "fgsm (3)", "fgsm", "partial", "partial (2)"]


@pytest.mark.slow
def test_attacks_of_attacks_are_run_on_the_guarded_model() -> None:
    model, images = tiny_case()
    other, _ = tiny_case(seed=1)
    both = Ensemble(model, attacks=[FGSM(model, eps=EPS), PGD(model, eps=EPS, steps=3)])
    moved = Transfer(model, surrogate=other, make=lambda m: FGSM(m, eps=EPS))
    official = AutoAttack(model, eps=EPS, attacks=("apgd-ce",))
    found = evaluate(model, images, [both, moved, official], threat=THREAT)
    ensemble, transfer, apgd = found.results
    assert ensemble.backwards
    assert apgd.accuracy <= ensemble.accuracy
    with torch.no_grad():
        x = images.images.float() / 255
        clean = model(x).argmax(1) == images.labels
        x_adv = moved(x, images.labels)
        assert torch.equal(transfer.correct, clean & (model(x_adv).argmax(1) == images.labels))


def test_attack_objects_search_on_the_model_itself() -> None:
    """An attack that stops at a success of a faster copy, whose roundings differ, might stop too early."""
    seen: list[Any] = []

    class Spy(Attack):
        def perturb(self, x: Tensor, y: Tensor) -> Tensor:
            seen.append(self.model)
            return x

    model = build(ModelConfig(name="wrn-10-1"), channels=3, classes=4, image_size=(8, 8)).eval()
    images = random_images(30, classes=4, channels=3, size=8)
    labels = model(to_float(images.images)).argmax(1)
    assert folded(model, to_float(images.images), labels) is not model
    evaluate(model, ImageSet(images.images, labels), [Spy(model, eps=EPS)], threat=THREAT, batch_size=20)
    assert len(seen) == 2
    assert all(climbable.model.model is model for climbable in seen)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda model: PGD, r"attacks: PGD maps no images and labels to attacked images; give PGD\(model, \.\.\.\)"),
        (lambda model: 5, r"attacks: int maps no images"),
        (
            lambda model: lambda model, x, y: x,
            r"lambda takes other arguments than images and labels; wrap it, such as lambda x, y",
        ),
        (lambda model: PGD(tiny_case(seed=1)[0], eps=EPS), r"PGD attacks another model .*nuat.attacks.Transfer\(model"),
        (lambda model: PGD(model, eps=0.2), r"PGD has Linf eps=0.2, the evaluation Linf eps=0.03; give both the same"),
        (lambda model: PGD(model, eps=EPS, norm="L2"), r"PGD has L2 eps=0.03"),
        (lambda model: lambda x, y: x + 2 * EPS, r"lambda returned an example outside the Linf ball of eps=0.03"),
        (lambda model: lambda x, y: x - EPS, r"lambda returned an example outside"),
        (lambda model: lambda x, y: x.add_(2 * EPS).clamp_(0, 1), r"lambda returned an example outside"),
        (lambda model: lambda x, y: x * float("nan"), r"lambda returned an example outside"),
        (lambda model: lambda x, y: (x, y), r"lambda returned tuple; expected attacked images as one tensor \[60, 3"),
        (lambda model: lambda x, y: x[:2], r"lambda returned \[2, 3, 6, 6\]; expected"),
    ],
)
def test_attacks_that_cannot_be_judged_are_refused(attack: Any, message: str) -> None:
    model, images = tiny_case(66)
    with pytest.raises(InputError, match=message.replace("[60", r"[\d+")):
        evaluate(model, images, ["clean", attack(model)], threat=THREAT)


def test_an_overstep_by_a_rounding_is_moved_inside() -> None:
    model, images = tiny_case(12)
    found = evaluate(model, images, [lambda x, y: x + (1 + 1e-6) * EPS * torch.sign(0.5 - x)], threat=THREAT)
    assert found.n == 12


def test_a_built_in_function_without_a_signature_is_taken() -> None:
    model, images = tiny_case(60)
    chosen = images.select((images.labels > 0).nonzero()[:6, 0])
    # no pixel is above a label, so the smaller of the two is the image
    clean, least = evaluate(model, chosen, ["clean", torch.minimum], threat=THREAT).results
    assert least.name == "minimum"
    assert torch.equal(clean.correct, least.correct)


def test_a_refusal_is_heard_as_the_attack_raised_it() -> None:
    model, images = tiny_case(12)
    refusal = NonFiniteError("no direction")

    def refuses(x: Tensor, y: Tensor) -> Tensor:
        raise refusal

    with pytest.raises(InputError) as caught:
        evaluate(model, images, ["clean", refuses], threat=THREAT)
    assert caught.value is refusal


@pytest.mark.parametrize("setting", ["state_path", "black_box"])
def test_settings_that_take_names_alone(setting: str, tmp_path: Any) -> None:
    model, images = tiny_case(12)
    value = tmp_path / "state.json" if setting == "state_path" else True
    with pytest.raises(InputError, match=f"{setting} takes attacks by name; leave out darker"):
        evaluate(model, images, [darker], threat=THREAT, **{setting: value})


@pytest.mark.slow
def test_an_attack_of_another_package_is_a_function_of_images_and_labels() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    model, images = tiny_case()
    theirs = torchattacks.FGSM(model.eval(), eps=EPS)
    found = evaluate(model, images, ["fgsm", theirs], threat=THREAT)
    ours, other = found.results
    assert other.name == "FGSM"
    assert torch.equal(ours.correct, other.correct)
