"""Accuracy of each class, clean and attacked, and what the attacked images are taken for, from recorded evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from nuat.core.intervals import wilson_interval
from nuat.evaluation.per_class import class_results, confusion_matrix
from nuat.evaluation.results import Evaluation
from nuat.figures import style
from nuat.figures.common_attack import answered, attack_clause, ball_text
from nuat.figures.common_options import RunOptions
from nuat.figures.figure_record import FigureRecord, require
from nuat.figures.kind import RunFigure
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 20
"""Classes up to which all are drawn, with a matrix of what they are taken for; of more the worst ``_WORST``."""
_WORST = 10
_MOST_NUMBERS = 12
"""Classes up to which the cells of the matrix show numbers."""


@dataclass(frozen=True, kw_only=True)
class ClassAccuracyOptions(RunOptions):
    """Accuracy of each class, clean and attacked, and what the attacked images are taken for."""

    attack: str | None = None
    """Attack, or worst-case. None: AutoAttack, else the strongest that every run has."""


@dataclass(frozen=True, kw_only=True)
class ModelClasses:
    """The classes of one model that have images."""

    name: str
    """Name of the model."""
    classes: tuple[str, ...]
    """Names of the classes."""
    n: tuple[int, ...]
    """Images of each class."""
    clean: tuple[int, ...] | None
    """Images of each class that are right without an attack. None: not measured."""
    correct: tuple[int, ...]
    """Images of each class that are withstood."""
    matrix: tuple[tuple[int, ...], ...]
    """Attacked images of each class (row) that are taken for each class, and in the last column for any other that the
    model knows. Empty: too many classes."""

    def __post_init__(self) -> None:
        size = len(self.classes)
        require(size >= 1 and min(self.n, default=0) >= 1, "a class, and images of each")
        for counts in (self.correct, self.n if self.clean is None else self.clean):
            require(len(counts) == len(self.n) == size, f"a count for each of {size} classes")
            require(all(0 <= k <= n for k, n in zip(counts, self.n, strict=True)), "counts of 0 to n images")
        require(all(len(row) == size + 1 and min(row) >= 0 for row in self.matrix), f"rows of {size + 1} counts")
        require(len(self.matrix) in (0, size), f"{size} rows of counts")


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy(FigureRecord):
    """Accuracies of the classes of several models under one attack."""

    kind: ClassVar[str] = "class-accuracy"

    attack: str
    """Attack, or worst-case."""
    ball: str
    """Norm and radius of the ball, in words."""
    models: tuple[ModelClasses, ...]
    """In the order of the models."""


def of_evaluations(named: Sequence[tuple[str, Evaluation]], attack: str) -> ClassAccuracy:
    """Return the record of evaluations, each with the name of its model; all have kept their predictions."""
    models = tuple(_model(name, evaluation, attack) for name, evaluation in named)
    return ClassAccuracy(attack=attack, ball=ball_text(named[0][1]), models=models)


def _model(name: str, evaluation: Evaluation, attack: str) -> ModelClasses:
    results, answers, labels = class_results(evaluation, attack), evaluation.answers(attack), evaluation.labels
    assert answers is not None  # of evaluations that have kept them
    assert labels is not None
    matrix: tuple[tuple[int, ...], ...] = ()
    if len(results) <= MOST_CLASSES:
        counts = confusion_matrix(answers, labels, len(evaluation.classes))
        there = torch.unique(labels)
        inside = counts[there][:, there]
        outside = counts[there].sum(dim=1, keepdim=True) - inside.sum(dim=1, keepdim=True)
        matrix = tuple(tuple(row) for row in np.concatenate([inside, outside], axis=1).tolist())
    clean = [one.clean for one in results if one.clean is not None]
    return ModelClasses(
        name=name,
        classes=tuple(one.name for one in results),
        n=tuple(one.n for one in results),
        clean=tuple(clean) if len(clean) == len(results) else None,
        correct=tuple(one.correct for one in results),
        matrix=matrix,
    )


def _measure(asked: ClassAccuracyOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> ClassAccuracy:
    attack, named = answered(runs, asked.attack)
    return of_evaluations(named, attack)


def _table(record: ClassAccuracy) -> Table:
    table = Table(title=f"Accuracy in % {attack_clause(record.attack)}", title_justify="left")
    for name in ("model", "worst class", "%", "best class", "%"):
        table.add_column(name, justify="right" if name == "%" else "left", overflow="fold")
    for model in record.models:
        shares = [k / n for k, n in zip(model.correct, model.n, strict=True)]
        ends = [shares.index(end) for end in (min(shares), max(shares))]
        cells = [text for i in ends for text in (style.class_name(model.classes[i], 30), f"{100 * shares[i]:.1f}")]
        table.add_row(*map(Text, (model.name, *cells)))
    return table


def draw(records: Sequence[ClassAccuracy]) -> "Figure":
    """Draw a row for each model: bars of its classes, and a matrix of what they are taken for."""
    models = [(record, model) for record in records for model in record.models]
    wide = any(model.matrix for _, model in models)
    figure = style.new_figure(style.WIDTH, 2.35 * len(models) + 0.45)
    axes = figure.subplots(len(models), 2 if wide else 1, squeeze=False, width_ratios=(1.6, 1.0) if wide else None)
    for i, (row, (record, model)) in enumerate(zip(axes, models, strict=True)):
        _bars(row[0], record, model, legend=i == 0)
        if wide and model.matrix:
            _matrix(row[1], model)
        elif wide:
            row[1].set_axis_off()
    told = [f"{records[0].ball}; whiskers: 95 % intervals over the images of a class."]
    if any(len(model.classes) > MOST_CLASSES for _, model in models):
        told.append(f"Of more than {MOST_CLASSES} classes the worst {_WORST} are shown.")
    if wide:
        told.append("Right: % of the attacked images of a class (row) that are taken for each class.")
    style.note(figure, told)
    return figure


def _bars(axis: Any, record: ClassAccuracy, model: ModelClasses, *, legend: bool) -> None:
    robust = [100 * k / n for k, n in zip(model.correct, model.n, strict=True)]
    shown = range(len(robust))
    if len(robust) > MOST_CLASSES:
        clean_share = [k / n for k, n in zip(model.clean or model.correct, model.n, strict=True)]
        shown = sorted(shown, key=lambda i: (robust[i], clean_share[i]))[:_WORST]  # type: ignore[assignment]
    places, heights = np.arange(len(shown)), [robust[i] for i in shown]
    if model.clean is not None:
        clean = [100 * model.clean[i] / model.n[i] for i in shown]
        axis.bar(places, clean, 0.8, color="#C9CDD2", label="clean")
    intervals = [wilson_interval(model.correct[i], model.n[i]) for i in shown]
    ends = [[100 * interval[side] for interval in intervals] for side in (0, 1)]
    reach = np.abs(np.asarray(ends) - heights)
    label = attack_clause(record.attack).removeprefix("on ")
    axis.bar(places, heights, 0.5, color=style.BLUE, label=label)
    axis.errorbar(places, heights, reach, fmt="none", ecolor=style.BLACK, elinewidth=0.8, capsize=1.5)
    names = [style.class_name(model.classes[i]) for i in shown]
    axis.set_xticks(places, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axis.grid(axis="x", visible=False)
    axis.set_xlim(-0.6, len(shown) - 0.4)
    style.percent_axis(axis, "accuracy")
    axis.set_title(style.shorten(model.name, 46), loc="left")
    if legend:
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.12), ncols=2, borderaxespad=0.0)


def _matrix(axis: Any, model: ModelClasses) -> None:
    counts = np.asarray(model.matrix)
    shares = 100 * counts / np.asarray(model.n)[:, None]
    if not counts[:, -1].any():
        shares = shares[:, :-1]
    axis.imshow(shares, cmap=style.COLOUR_MAP, vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    axis.grid(visible=False)
    names = [style.class_name(name, 8) for name in model.classes]
    columns = [*names, "other"][: shares.shape[1]]
    axis.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 2 else 0)
    axis.set_yticks(range(len(names)), names)
    for i, j in np.argwhere(shares >= 0.5) if len(names) <= _MOST_NUMBERS else ():
        ink = "black" if shares[i, j] > 60 else "white"
        axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=5.5, color=ink)


FIGURE = RunFigure(
    record=ClassAccuracy,
    options=ClassAccuracyOptions,
    summary="accuracy of each class, and what its attacked images are taken for",
    title="Accuracy of each class",
    caption=(
        "Accuracy of each class without an attack (grey) and under attack (blue). Higher is better, and even bars are: "
        "an average hides the classes that fail."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
    has_colour_map=True,
)
