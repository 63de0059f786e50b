"""Results class by class, against a loop."""

import io
from dataclasses import replace

import pytest
import torch
from evaluation_models import THREAT, evaluate, tiny_case
from rich.console import Console

from nuat.core.intervals import wilson_interval
from nuat.errors import InputError
from nuat.evaluation.answers import Answers
from nuat.evaluation.per_class import confusion_matrix, per_class_table, worst_class_text
from nuat.evaluation.result_table import as_html, as_text, calibration_text
from nuat.evaluation.results import AttackResult, Evaluation

EVIL = "[bold]<script>&\x1b[31m"


@pytest.fixture(scope="module")
def found() -> Evaluation:
    model, images = tiny_case(60)
    return evaluate(model, images, ("clean", "pgd-4", "gama-2"), threat=THREAT, n=50, classes=("a", "b", "c", "d"))


def made(predicted: list[int], labels: list[int], classes: tuple[str, ...]) -> Evaluation:
    """Return an evaluation of one attack with these predictions."""
    truth, said = torch.tensor(labels), torch.tensor(predicted)
    answers = Answers(said, torch.full((len(said),), 0.75, dtype=torch.float64))
    result = AttackResult("pgd-20", {}, said == truth, 1.0, 1, 1, answers=answers)
    return Evaluation((result,), torch.arange(len(said)), 0.1, 0, 4, "a CPU", labels=truth, classes=classes)


def text(table: object, width: int = 100) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_each_class_is_counted_as_by_a_loop(found: Evaluation) -> None:
    assert found.labels is not None
    for attack in ("clean", "pgd-4", "worst-case"):
        answers = found.answers(attack)
        assert answers is not None
        for label, one in enumerate(found.per_class(attack)):
            images = [i for i, y in enumerate(found.labels.tolist()) if y == label]
            wrong = [int(answers.predicted[i]) for i in images if int(answers.predicted[i]) != label]
            assert one.name == "abcd"[label]
            assert (one.n, one.correct) == (len(images), len(images) - len(wrong))
            assert one.clean == sum(bool(found.results[0].correct[i]) for i in images)
            assert one.interval == wilson_interval(one.correct, one.n)
            assert one.taken == max(map(wrong.count, wrong), default=0)
            assert not wrong or wrong.count("abcd".index(one.taken_for)) == one.taken
    worst = sum(one.correct for one in found.per_class())
    assert worst == int(found.worst_case.sum())


def test_the_matrix_counts_every_pair() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    answers = Answers(torch.tensor([0, 2, 1, 2, 0, 4]), torch.ones(6, dtype=torch.float64))
    assert confusion_matrix(answers, labels, 3).tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 1]]


def test_one_line_names_the_worst_class() -> None:
    one = made([0, 0, 2, 1, 0, 0], [0, 0, 1, 1, 2, 2], ("cat", "dog", "eel"))
    assert worst_class_text(one) == "worst class under PGD-20: eel, 0.0 % (0.0 - 65.8, n 2), most often taken for cat"
    assert worst_class_text(one) in " ".join(as_text(one).split())
    assert worst_class_text(one) in as_html(one)
    several = replace(one, results=(*one.results, replace(one.results[0], name="gama-100")))
    assert worst_class_text(several).startswith("worst class in the worst case: eel")
    assert calibration_text(one).endswith("% under PGD-20")
    assert calibration_text(several).endswith("% in the worst case")
    evil = replace(one, results=(replace(one.results[0], name=f"{EVIL}\nx"),))
    for told in (as_text(evil), text(per_class_table(evil))):
        assert "script" in told
        assert "\x1b" not in told
    clean = replace(one, results=(replace(one.results[0], name="clean"),))
    assert worst_class_text(clean).startswith("worst class on clean images: eel")
    alike = made([1, 0, 3], [0, 1, 2], ("cat", "dog", "eel"))
    assert worst_class_text(alike).endswith("cat and 2 more, 0.0 % (0.0 - 79.3, n 1)")
    assert alike.per_class()[2].taken_for == "logit 3, no class of the images"
    assert "taken" not in worst_class_text(made([0, 1], [0, 1], ("cat", "dog")))


def test_names_are_neither_markup_nor_escapes() -> None:
    one = made([1, 0, 1], [0, 1, 1], (EVIL, "x" * 5000))
    for shown in (text(per_class_table(one)), as_text(one), as_html(one)):
        assert "\x1b" not in shown
        assert "x" * 100 not in shown
        assert "<script>" not in as_html(one)
    assert "[bold]" in as_text(one)
    attack = replace(one.results[0], name="[bold]")
    assert "[bold]" in text(per_class_table(replace(one, results=(attack,)), "[bold]")).splitlines()[0]


def test_of_many_classes_the_worst_ten_are_shown() -> None:
    labels = torch.arange(30).repeat(10)
    wrong = torch.arange(300) // 30 < (labels % 10)  # class k is wrong on k % 10 of its 10 images
    one = made(
        torch.where(wrong, (labels + 1) % 30, labels).tolist(), labels.tolist(), tuple(map(str, range(100, 130)))
    )
    shown = text(per_class_table(one))
    assert "the worst 10 of 30 classes" in shown
    names = [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]
    assert names == ["109", "119", "129", "108", "118", "128", "107", "117", "127", "106"]
    assert len(one.to_json()["per_class"]["classes"]) == 30


def test_a_class_without_images_has_no_row() -> None:
    assert [one.name for one in made([0, 2], [0, 2], ("a", "b", "c")).per_class()] == ["a", "c"]


def test_older_evaluations_have_no_classes(found: Evaluation) -> None:
    values = found.to_json()
    for name in ("labels", "classes", "temperature", "per_class", "calibration_error"):
        del values[name]
    for row in values["results"]:
        del row["predicted"], row["confidence"]
    old = Evaluation.from_json(values)
    assert old.to_json() == values
    assert (old.per_class(), old.answers(), old.calibration_error("clean"), worst_class_text(old)) == (
        (),
        None,
        None,
        "",
    )
    assert "calibration" not in as_text(old)
    with pytest.raises(InputError, match="kept no predictions"):
        per_class_table(old)


def test_an_unknown_attack_is_refused(found: Evaluation) -> None:
    with pytest.raises(InputError, match="no result 'fgsm'"):
        found.per_class("fgsm")


def test_the_calibration_is_told_of_clean_and_worst(found: Evaluation) -> None:
    told = " ".join(as_text(found).split())
    clean, worst = (found.calibration_error(name) for name in ("clean", "worst-case"))
    assert clean is not None
    assert worst is not None
    assert f"calibration error (15 bins): {100 * clean:.1f} % on clean images, {100 * worst:.1f} % in the worst" in told
    assert "temperature" not in told
    assert "at temperature 1.5" in " ".join(as_text(replace(found, temperature=1.5)).split())
    assert found.to_json()["calibration_error"]["worst-case"] == worst
