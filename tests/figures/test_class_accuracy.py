"""Accuracy of each class, and what its attacked images are taken for, against counts by hand and by a slow loop."""

import pytest
import torch

from nuat.evaluation.answers import Answers
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.figures import style
from nuat.figures.class_accuracy import MOST_CLASSES, _matrix, of_evaluations

CLASSES = ("cat", "dog", "owl", "fox")
LABELS = [0, 0, 0, 0, 1, 1, 1, 3, 3, 3]
"""No image is an owl."""
CLEAN = [0, 0, 0, 1, 1, 1, 1, 3, 3, 0]
ROBUST = [0, 1, 1, 3, 1, 0, 2, 3, 3, 0]


def evaluation(
    answers: dict[str, tuple[list[int], list[float]]], labels: list[int], classes: tuple[str, ...]
) -> Evaluation:
    """Return an evaluation with predictions and confidences for each attack."""
    truth = torch.tensor(labels)
    results = tuple(
        AttackResult(
            name, {}, torch.tensor(said) == truth, 1.0, 1, 1,
            answers=Answers(torch.tensor(said), torch.tensor(sure, dtype=torch.float64)),
        )
        for name, (said, sure) in answers.items()
    )  # fmt: skip
    return Evaluation(
        results, torch.arange(len(labels)), 0.3, 0, 10, "a machine", labels=truth, classes=classes
    )  # fmt: skip


@pytest.fixture
def by_hand() -> Evaluation:
    sure = [0.5] * len(LABELS)
    return evaluation({"clean": (CLEAN, sure), "pgd-100": (ROBUST, sure)}, LABELS, CLASSES)


def test_counts_are_those_by_hand(by_hand: Evaluation) -> None:
    record = of_evaluations([("net", by_hand)], "pgd-100")
    (model,) = record.models
    assert (record.attack, record.ball, model.name) == ("pgd-100", "Linf eps 0.3", "net")
    assert model.classes == ("cat", "dog", "fox")
    assert (model.n, model.clean, model.correct) == ((4, 3, 3), (3, 3, 2), (1, 1, 2))
    assert model.matrix == (
        (1, 2, 1, 0),  # cats: one right, two dogs, a fox
        (1, 1, 0, 1),  # dogs: a cat, one right, an owl, which is no class of the images
        (1, 0, 2, 0),
    )


def test_the_worst_case_counts_the_surest_wrong_answer_of_each_image() -> None:
    generator = torch.Generator().manual_seed(0)
    n, classes, logits = 200, 5, 7
    labels = torch.randint(classes, (n,), generator=generator).tolist()
    answers = {
        name: (
            [y if right else other for y, right, other in zip(
                labels, (torch.rand(n, generator=generator) < 0.6).tolist(),
                torch.randint(logits, (n,), generator=generator).tolist(), strict=True,
            )],
            torch.rand(n, generator=generator, dtype=torch.float64).tolist(),
        )
        for name in ("clean", "pgd-100", "square")
    }  # fmt: skip
    expected = [[0] * (classes + 1) for _ in range(classes)]
    for i, label in enumerate(labels):
        given = [(said[i], sure[i]) for said, sure in answers.values()]
        wrong = [(sure, said) for said, sure in given if said != label]
        taken = max(wrong)[1] if wrong else label
        expected[label][min(taken, classes)] += 1
    found = evaluation(answers, labels, tuple("abcde"))
    (model,) = of_evaluations([("net", found)], "worst-case").models
    assert model.matrix == tuple(map(tuple, expected))
    assert model.correct == tuple(row[i] for i, row in enumerate(expected))
    assert any(row[-1] for row in expected)
    assert expected != [list(column) for column in zip(*expected, strict=False)]


def test_a_row_of_the_drawing_is_a_class_in_percent_of_its_images(by_hand: Evaluation) -> None:
    (model,) = of_evaluations([("net", by_hand)], "pgd-100").models
    axis = style.new_figure(2, 2).subplots()
    _matrix(axis, model)
    drawn = axis.images[0].get_array()
    assert drawn.shape == (3, 4)
    assert drawn.tolist() == [
        [100 * 1 / 4, 100 * 2 / 4, 100 * 1 / 4, 0],
        [pytest.approx(100 / 3), pytest.approx(100 / 3), 0, pytest.approx(100 / 3)],
        [pytest.approx(100 / 3), 0, pytest.approx(200 / 3), 0],
    ]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["cat", "dog", "fox"]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["cat", "dog", "fox", "other"]
    numbers = {text.get_position(): text.get_text() for text in axis.texts}
    assert numbers == {
        (0, 0): "25", (1, 0): "50", (2, 0): "25", (0, 1): "33", (1, 1): "33", (3, 1): "33", (0, 2): "33", (2, 2): "67",
    }  # fmt: skip


def test_where_no_image_is_taken_for_another_class_there_is_no_column_for_it() -> None:
    sure = [0.5] * 3
    found = evaluation({"pgd-100": ([0, 0, 1], sure)}, [0, 1, 1], ("cat", "dog"))
    (model,) = of_evaluations([("net", found)], "pgd-100").models
    assert model.clean is None
    axis = style.new_figure(2, 2).subplots()
    _matrix(axis, model)
    assert axis.images[0].get_array().tolist() == [[100, 0], [50, 50]]


def test_of_many_classes_there_is_no_matrix() -> None:
    labels = list(range(MOST_CLASSES + 1))
    found = evaluation({"pgd-100": (labels, [0.5] * len(labels))}, labels, tuple(map(str, labels)))
    (model,) = of_evaluations([("net", found)], "pgd-100").models
    assert (len(model.classes), model.matrix) == (MOST_CLASSES + 1, ())
