"""Reliability diagrams against bins by hand and by a slow loop."""

from math import ceil

import pytest
import torch

from nuat.evaluation.answers import Answers
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.figures.calibration import of_evaluations

BINS = 15


def evaluation(answers: dict[str, tuple[list[bool], list[float]]], *, temperature: float = 1.0) -> Evaluation:
    """Return an evaluation of images of class 0, with right answers and confidences for each attack."""
    results = tuple(
        AttackResult(
            name, {}, torch.tensor(right), 1.0, 1, 1,
            answers=Answers(1 - torch.tensor(right).long(), torch.tensor(sure, dtype=torch.float64)),
        )
        for name, (right, sure) in answers.items()
    )  # fmt: skip
    n = len(results[0].correct)
    return Evaluation(
        results, torch.arange(n), 0.3, 0, 10, "a machine", labels=torch.zeros(n, dtype=torch.int64),
        classes=("cat", "dog"), temperature=temperature,
    )  # fmt: skip


def test_bins_are_those_by_hand() -> None:
    clean = ([True, True, False, True], [1.0, 0.98, 0.96, 0.5])
    robust = ([False, False, True, False], [0.9, 0.91, 0.2, 0.0])
    found = evaluation({"clean": clean, "pgd-100": robust}, temperature=1.5)
    record = of_evaluations([("net", found)], "pgd-100")
    (model,) = record.models
    assert (record.ball, model.name, model.temperature) == ("Linf eps 0.3", "net", 1.5)
    one, two = model.diagrams
    assert (one.attack, two.attack) == ("clean", "pgd-100")

    # (14/15, 1] holds three clean images, two of them right, and (7/15, 8/15] the fourth
    assert one.n == (0,) * 7 + (1,) + (0,) * 6 + (3,)
    assert (one.accuracy[7], one.confidence[7]) == (1.0, 0.5)
    assert (one.accuracy[14], one.confidence[14]) == (pytest.approx(2 / 3), pytest.approx(0.98))
    assert one.error == pytest.approx((0.5 + 3 * (0.98 - 2 / 3)) / 4)

    # 0.2 ends the third bin, which it is in; 0 is in the first; 0.9 and 0.91 are in (13/15, 14/15]
    assert two.n == (1, 0, 1) + (0,) * 10 + (2, 0)
    assert (two.accuracy[0], two.confidence[0]) == (0.0, 0.0)
    assert (two.accuracy[2], two.confidence[2]) == (1.0, pytest.approx(0.2))
    assert (two.accuracy[13], two.confidence[13]) == (0.0, pytest.approx(0.905))
    assert two.error == pytest.approx((0.0 + 0.8 + 2 * 0.905) / 4)


def test_the_worst_case_has_the_bins_of_a_slow_loop() -> None:
    """An image counts with its surest wrong answer, or else with its least sure right one."""
    generator = torch.Generator().manual_seed(0)
    n = 300
    answers = {
        name: (
            (torch.rand(n, generator=generator) < 0.8).tolist(),
            torch.rand(n, generator=generator, dtype=torch.float64).tolist(),
        )
        for name in ("clean", "pgd-100", "square")
    }
    members: list[list[tuple[bool, float]]] = [[] for _ in range(BINS)]
    for i in range(n):
        given = [(right[i], sure[i]) for right, sure in answers.values()]
        wrong = [sure for right, sure in given if not right]
        sure = max(wrong) if wrong else min(sure for _, sure in given)
        members[ceil(BINS * sure) - 1].append((not wrong, sure))
    (model,) = of_evaluations([("net", evaluation(answers))], "worst-case").models
    diagram = model.diagrams[1]
    assert (model.diagrams[0].attack, diagram.attack) == ("clean", "worst-case")
    assert diagram.n == tuple(map(len, members))
    assert min(diagram.n) > 0
    for found, values in zip(diagram.accuracy, members, strict=True):
        assert found == pytest.approx(sum(right for right, _ in values) / len(values))
    for found, values in zip(diagram.confidence, members, strict=True):
        assert found == pytest.approx(sum(sure for _, sure in values) / len(values))


def test_clean_images_alone_have_one_diagram() -> None:
    found = evaluation({"clean": ([True], [0.9]), "pgd-100": ([False], [0.9])})
    (model,) = of_evaluations([("net", found)], "clean").models
    assert [(one.attack, one.accuracy[13]) for one in model.diagrams] == [("clean", 1.0)]
