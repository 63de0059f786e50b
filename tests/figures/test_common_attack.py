"""The attack that runs have in common, and their answers under it."""

from pathlib import Path

import pytest
import torch
from figure_models import write_run

from nuat.errors import InputError
from nuat.evaluation.answers import Answers
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.figures.common_attack import answered, strongest_attack
from nuat.records.finished_runs import finished_runs


def test_answers_in_worst_cases_over_different_attacks_are_refused(tmp_path: Path) -> None:
    right, labels = torch.ones(4, dtype=torch.bool), torch.tensor([0, 1, 0, 1])
    answers = Answers(labels, torch.full((4,), 0.75, dtype=torch.float64))
    for name, attacks in (("a", ("clean", "pgd-5", "gama-5")), ("b", ("clean", "pgd-5", "square"))):
        results = tuple(AttackResult(attack, {}, right, 1.0, 1, 1, answers=answers) for attack in attacks)
        found = Evaluation(results, torch.arange(4), 0.3, 0, 4, "a CPU", labels=labels, classes=("cat", "dog"))
        found.save(write_run(tmp_path / name, recipe=name) / "evaluation.json")
    runs = finished_runs([tmp_path / name for name in "ab"])
    with pytest.raises(InputError, match=r"over different attacks \(clean, gama-5, pgd-5; clean, pgd-5, square\)"):
        answered(runs, "worst-case")
    attack, named = answered(runs, "clean")
    assert (attack, [name for name, _ in named]) == ("clean", ["a", "b"])
    with pytest.raises(InputError, match="no run has 'fgsm' with predictions; there are: clean, gama-5, pgd-5"):
        answered(runs, "fgsm")


def test_runs_without_answers_or_a_usual_attack_are_refused(tmp_path: Path) -> None:
    runs = finished_runs([write_run(tmp_path / "a", accuracies={"square": 0.5})])
    with pytest.raises(InputError, match="none of the runs has an evaluation that kept the predictions"):
        answered(runs, None)
    with pytest.raises(InputError, match=r"attacked in a usual way \(no attack\); give --attack"):
        strongest_attack([])
