"""Results of an evaluation class by class: what each class withstands, and what its images are taken for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from nuat.attacks.catalogue import WORST_CASE, attack_name
from nuat.core.intervals import wilson_interval
from nuat.errors import InputError, printable

if TYPE_CHECKING:
    from nuat.evaluation.answers import Answers
    from nuat.evaluation.results import Evaluation

MOST_ROWS = 10
"""Classes that people are shown where there are more; the others are in the record."""
_LONGEST = 40


@dataclass(frozen=True)
class ClassResult:
    """One class under an attack, or in the worst case."""

    name: str
    n: int
    """Images of the class, at least 1."""
    clean: int | None
    """Images that are right without an attack. None: not measured."""
    correct: int
    """Images withstood."""
    taken_for: str
    """Class that the attacked images are taken for most often, if wrong. Empty: none is wrong."""
    taken: int
    """Images that are taken for it."""

    @property
    def accuracy(self) -> float:
        """Fraction of images withstood, in [0, 1]."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy over images drawn like these."""
        return wilson_interval(self.correct, self.n)


def class_results(evaluation: "Evaluation", attack: str = WORST_CASE) -> tuple[ClassResult, ...]:
    """Return a result for each class that has images, in the order of the labels.

    Empty: the evaluation is of a version that kept no predictions.

    Raises:
        InputError: there is no such attack.
    """
    answers = evaluation.answers(attack)
    if answers is None or evaluation.labels is None:
        return ()
    labels, found = evaluation.labels, []
    clean = next((result.correct for result in evaluation.results if result.name == "clean"), None)
    counts = confusion_matrix(answers, labels, len(evaluation.classes))
    for label in torch.bincount(labels).nonzero().squeeze(1).tolist():
        of_class, row = labels == label, counts[label].clone()
        correct, row[label] = int(row[label]), 0
        taken, other = (int(value) for value in row.max(dim=0))
        found.append(
            ClassResult(
                name=evaluation.classes[label],
                n=int(of_class.sum()),
                clean=None if clean is None else int(clean[of_class].sum()),
                correct=correct,
                taken_for=class_name(evaluation.classes, other) if taken else "",
                taken=taken,
            )
        )
    return tuple(found)


def pooled(several: Sequence[tuple[ClassResult, ...]]) -> tuple[ClassResult, ...]:
    """Return the classes of several evaluations, the images of a class together.

    What the images are taken for is kept of a lone evaluation, and empty otherwise.
    """
    if len(several) == 1:
        return several[0]
    together: dict[str, ClassResult] = {}
    for one in (one for results in several for one in results):
        other = together.get(one.name, ClassResult(one.name, 0, 0, 0, "", 0))
        clean = None if one.clean is None or other.clean is None else one.clean + other.clean
        together[one.name] = ClassResult(one.name, one.n + other.n, clean, one.correct + other.correct, "", 0)
    return tuple(together.values())


def confusion_matrix(answers: "Answers", labels: Tensor, classes: int) -> Tensor:
    """Return counts of images, int64 [N, M]: row the label, column the prediction; M > N if the model has more logits.

    Args:
        answers: of n images.
        labels: int64 [n], below ``classes``.
        classes: classes N of the images.
    """
    columns = max(classes, 1 + int(answers.predicted.max()))
    places = labels * columns + answers.predicted
    return torch.bincount(places, minlength=classes * columns).view(classes, columns)


def class_name(classes: tuple[str, ...], label: int) -> str:
    """Return the name of a predicted class, which may be none of the images'."""
    return classes[label] if label < len(classes) else f"logit {label}, no class of the images"


def worst_first(results: tuple[ClassResult, ...], most: int | None = MOST_ROWS) -> tuple[ClassResult, ...]:
    """Return the results by accuracy, then by that without an attack, the worst first; at most ``most``."""
    ordered = sorted(results, key=lambda one: (one.accuracy, 0 if one.clean is None else one.clean / one.n))
    return tuple(ordered[:most])


def worst_class_text(evaluation: "Evaluation", attack: str = WORST_CASE) -> str:
    """Return one line on the class that withstands an attack least; empty: the predictions were not kept."""
    results = worst_first(class_results(evaluation, attack), None)
    if not results:
        return ""
    one, alike = results[0], sum(other.accuracy == results[0].accuracy for other in results) - 1
    low, high = (100 * end for end in one.interval)
    others = f" and {alike} more" if alike else ""
    taken = f", most often taken for {shown(one.taken_for)}" if one.taken_for and not alike else ""
    return (
        f"worst class {under(evaluation, attack)}: {shown(one.name)}{others}, {100 * one.accuracy:.1f} % "
        f"({low:.1f} - {high:.1f}, n {one.n:,}){taken}"
    )


def under(evaluation: "Evaluation", attack: str = WORST_CASE) -> str:
    """Return "under PGD-20", "on clean images" or "in the worst case".

    A worst case over one attack is named after it.
    """
    attack = _named(evaluation, attack)
    if attack == WORST_CASE:
        return "in the worst case"
    if attack == "clean":
        return "on clean images"
    return f"under {printable(attack_name(attack, None if evaluation.also is None else evaluation.norm))}"


def _named(evaluation: "Evaluation", attack: str) -> str:
    """Return the attack that a result is named after: a worst case over one attack after this."""
    attacks = [result.name for result in evaluation.results if result.name != "clean"] or ["clean"]
    return attacks[0] if attack == WORST_CASE and len(attacks) == 1 else attack


def per_class_table(evaluation: "Evaluation", attack: str = WORST_CASE) -> Table:
    """Return a row for each class as a table for the terminal; of many classes the worst ones.

    Raises:
        InputError: the evaluation kept no predictions, or there is no such attack.
    """
    results = class_results(evaluation, attack)
    if not results:
        raise InputError("the evaluation is of a version that kept no predictions; make it again.")
    few = len(results) <= MOST_ROWS
    title = printable(attack_name(_named(evaluation, attack)))
    title += "" if few else f", the worst {MOST_ROWS} of {len(results):,} classes"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("n", "clean %", "accuracy %", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("most often taken for", overflow="fold")
    for one in results if few else worst_first(results):
        low, high = (100 * end for end in one.interval)
        taken = f"{shown(one.taken_for)} ({100 * one.taken / one.n:.1f} %)" if one.taken_for else ""
        clean = "" if one.clean is None else f"{100 * one.clean / one.n:.1f}"
        cells = (shown(one.name), f"{one.n:,}", clean, f"{100 * one.accuracy:.1f}", f"{low:.1f} - {high:.1f}", taken)
        table.add_row(*map(Text, cells))
    return table


def shown(name: str) -> str:
    """Return the name of a class for a line of people's text."""
    text = printable(name)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
