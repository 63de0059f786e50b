"""Answers: the predicted class and its probability, image by image."""

import math

import pytest
import torch
from evaluation_models import EPS, THREAT, WIDE, evaluate, linear_case, planted, tiny_case
from torch import Tensor

from nuat.attacks import catalogue
from nuat.data import to_float
from nuat.errors import InputError
from nuat.evaluation.answers import Answers, joined, worst


def test_the_probability_is_softmax_at_the_temperature() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.5, 0.25, 0.0]])
    for temperature in (1.0, 2.5):
        found = Answers.of(logits, temperature)
        assert found.predicted.tolist() == [1, 0]
        for row, confidence in zip(logits.tolist(), found.confidence.tolist(), strict=True):
            powers = [math.exp(value / temperature) for value in row]
            assert confidence == pytest.approx(max(powers) / sum(powers), abs=0.51e-4)


def test_the_worst_is_the_surest_wrong_answer_else_the_least_sure_right_one() -> None:
    draw = torch.Generator().manual_seed(0)
    several = [
        Answers(torch.randint(0, 3, (40,), generator=draw), torch.rand(40, generator=draw, dtype=torch.float64))
        for _ in range(4)
    ]
    labels = torch.randint(0, 3, (40,), generator=draw)
    found = worst(several, labels)
    for i, label in enumerate(labels.tolist()):
        of_image = [(int(one.predicted[i]), float(one.confidence[i])) for one in several]
        wrong = [pair for pair in of_image if pair[0] != label]
        expected = max(wrong, key=lambda pair: pair[1]) if wrong else min(of_image, key=lambda pair: pair[1])
        assert (int(found.predicted[i]), float(found.confidence[i])) == expected


def test_parts_are_put_together_and_none_is_no_image() -> None:
    whole = Answers(torch.tensor([1, 2, 3]), torch.tensor([0.5, 0.25, 1.0], dtype=torch.float64))
    parts = [whole.at(torch.tensor([0])), whole.at(torch.tensor([False, True, True]))]
    assert joined(parts).to_json() == whole.to_json() == Answers.from_json(whole.to_json()).to_json()
    assert len(joined([]).predicted) == 0


def test_an_evaluation_keeps_what_the_model_says_on_its_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, _ = linear_case()
    x = to_float(images.images)

    def darker(x: Tensor, seed: int) -> Tensor:
        return (x - EPS / 2).clamp(0.0, 1.0)

    monkeypatch.setattr(catalogue, "CATALOGUE", catalogue.CATALOGUE | planted(darker))
    found = evaluate(model, images, ("clean", "planted"), threat=WIDE, batch_size=7)
    with torch.no_grad():
        clean, dark = Answers.of(model(x)), Answers.of(model(darker(x, 0)))
    right = clean.predicted == images.labels
    assert found.results[0].answers is not None
    assert found.results[0].answers.to_json() == clean.to_json()
    # an image that is wrong without an attack is not attacked: it keeps the answer that it has
    assert found.results[1].answers is not None
    assert found.results[1].answers.to_json() == clean.replaced(right, dark.at(right)).to_json()
    assert torch.equal(found.labels, images.labels)
    for result in found.results:
        assert result.answers is not None
        assert torch.equal(result.answers.predicted == images.labels, result.correct)


@pytest.mark.slow
def test_an_attack_on_survivors_keeps_the_answers_that_broke_the_others() -> None:
    pytest.importorskip("pyautoattack")
    model, images = tiny_case(24)
    found = evaluate(model, images, ("clean", "pgd-4", "autoattack-fast"), threat=THREAT, batch_size=10)
    clean, pgd, auto = (result.answers for result in found.results)
    assert clean is not None
    assert pgd is not None
    assert auto is not None
    broken = ~found.results[1].correct
    assert 0 < int(broken.sum()) < 24
    assert auto.at(broken).to_json() == pgd.at(broken).to_json()
    assert torch.equal(auto.predicted == images.labels, found.results[2].correct)


def test_classes_have_the_names_that_are_given_or_that_the_model_brings() -> None:
    model, images = tiny_case(12)
    assert evaluate(model, images, ("clean",), threat=THREAT).classes == ("0", "1", "2", "3")
    model.classes = ("a", "b", "c", "d")
    assert evaluate(model, images, ("clean",), threat=THREAT).classes == ("a", "b", "c", "d")
    named = evaluate(model, images, ("clean",), threat=THREAT, classes=("k", "l", "m", "n"))
    assert named.classes == ("k", "l", "m", "n")
    # names of the model's logits are no names of the classes in another order
    mapped = evaluate(model, images, ("clean",), threat=THREAT, class_map=(1, 0, 2, 3))
    assert mapped.classes == ("0", "1", "2", "3")
    with pytest.raises(InputError, match="classes: 2 names, but the labels go up to 3"):
        evaluate(model, images, ("clean",), threat=THREAT, classes=("k", "l"))


@pytest.mark.parametrize("value", [float("nan"), 0.0, 1e6, "1"])
def test_a_temperature_that_is_none_is_refused(value: object) -> None:
    model, images = tiny_case(8)
    model.calibration_temperature = value
    with pytest.raises(InputError, match="calibration_temperature"):
        evaluate(model, images, ("clean",), threat=THREAT)


def test_a_temperature_of_the_model_changes_probabilities_alone() -> None:
    model, images = tiny_case(20)
    plain = evaluate(model, images, ("clean", "pgd-4"), threat=THREAT)
    model.calibration_temperature = 2.0
    cooled = evaluate(model, images, ("clean", "pgd-4"), threat=THREAT)
    assert cooled.temperature == 2.0
    for one, other in zip(plain.results, cooled.results, strict=True):
        assert torch.equal(one.correct, other.correct)
        assert torch.equal(one.answers.predicted, other.answers.predicted)
        assert not torch.equal(one.answers.confidence, other.answers.confidence)
