"""Reliability diagrams: accuracy against confidence, clean and attacked, from recorded evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table
from rich.text import Text

from nuat.evaluation.calibration import BINS, reliability
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

_COLUMNS = 3
"""Models beside one another."""


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions(RunOptions):
    """Reliability diagrams: accuracy against confidence, clean and attacked, in 15 bins of equal width."""

    attack: str | None = None
    """Attack, or worst-case, beside the clean images. None: AutoAttack, else the strongest that every run has."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Reliability diagram under one attack, or on clean images."""

    attack: str
    """Attack, worst-case, or clean."""
    n: tuple[int, ...]
    """Images of each bin."""
    confidence: tuple[float, ...]
    """Mean confidence of each bin, in [0, 1]."""
    accuracy: tuple[float, ...]
    """Accuracy in each bin, in [0, 1]."""

    def __post_init__(self) -> None:
        require(len(self.n) == len(self.confidence) == len(self.accuracy) == BINS, f"{BINS} bins")
        require(min(self.n) >= 0 and sum(self.n) >= 1, "images in the bins")

    @property
    def error(self) -> float:
        """Expected calibration error, in [0, 1]."""
        bins = zip(self.n, self.confidence, self.accuracy, strict=True)
        return sum(n * abs(accuracy - confidence) for n, confidence, accuracy in bins) / sum(self.n)


@dataclass(frozen=True, kw_only=True)
class ModelCalibration:
    """Reliability diagrams of one model."""

    name: str
    """Name of the model."""
    temperature: float
    """Temperature of its probabilities."""
    diagrams: tuple[Reliability, ...]
    """Clean, if it was measured, and attacked."""


@dataclass(frozen=True, kw_only=True)
class Calibration(FigureRecord):
    """Reliability diagrams of several models."""

    kind: ClassVar[str] = "calibration"

    ball: str
    """Norm and radius of the ball, in words."""
    models: tuple[ModelCalibration, ...]
    """In the order of the models."""


def of_evaluations(named: Sequence[tuple[str, Evaluation]], attack: str) -> Calibration:
    """Return the record of evaluations, each with the name of its model; all have kept their answers."""
    models = []
    for name, evaluation in named:
        clean = [one.name for one in evaluation.results if one.name == "clean" != attack]
        diagrams = tuple(_diagram(evaluation, under) for under in (*clean, attack))
        models.append(ModelCalibration(name=name, temperature=evaluation.temperature, diagrams=diagrams))
    return Calibration(ball=ball_text(named[0][1]), models=tuple(models))


def _diagram(evaluation: Evaluation, attack: str) -> Reliability:
    answers = evaluation.answers(attack)
    assert answers is not None  # of evaluations that have kept them
    assert evaluation.labels is not None
    bins = reliability(answers.confidence, answers.predicted == evaluation.labels)
    return Reliability(
        attack=attack,
        n=tuple(one.n for one in bins),
        confidence=tuple(one.confidence for one in bins),
        accuracy=tuple(one.accuracy for one in bins),
    )


def _measure(asked: CalibrationOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> Calibration:
    attack, named = answered(runs, asked.attack)
    return of_evaluations(named, attack)


def _table(record: Calibration) -> Table:
    table = Table(title=f"Expected calibration error in %, {BINS} bins", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("attack", "error %", "n", "temperature"):
        table.add_column(name, justify="left" if name == "attack" else "right")
    for model in record.models:
        for one in model.diagrams:
            cells = (one.attack, f"{100 * one.error:.1f}", f"{sum(one.n):,}", f"{model.temperature:.4g}")
            table.add_row(*map(Text, (model.name, *cells)))
    return table


def draw(records: Sequence[Calibration]) -> "Figure":
    """Draw a diagram for each model, clean and attacked; the area of a mark is the share of the images."""
    models = [model for record in records for model in record.models]
    columns = min(_COLUMNS, len(models))
    rows = -(-len(models) // columns)
    figure = style.new_figure(2.3 * columns + (0.6 if columns == 1 else 0.1), 2.45 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, model in zip(axes, models, strict=False):
        _reliability(axis, model)
    for axis in axes[len(models) :]:
        axis.set_axis_off()
    told = [f"{records[0].ball}; {BINS} bins; area of a mark: share of the images."]
    style.note(figure, [*told, "In brackets: expected calibration error. Dashed: as often right as it says."])
    return figure


def _reliability(axis: Any, model: ModelCalibration) -> None:
    axis.plot((0, 100), (0, 100), color=style.GREY, linewidth=0.9, linestyle="--")
    for i, one in enumerate(model.diagrams):
        there = [k for k, n in enumerate(one.n) if n]
        x, y = ([100 * values[k] for k in there] for values in (one.confidence, one.accuracy))
        shade = style.BLUE if one.attack == "clean" else style.VERMILION
        name = attack_clause(one.attack).removeprefix("on ").removesuffix(" images")
        axis.plot(x, y, color=shade, linewidth=1.0, zorder=2)
        sizes = [8 + 120 * one.n[k] / sum(one.n) for k in there]
        label = f"{name} ({100 * one.error:.1f} %)"
        axis.scatter(x, y, sizes, color=shade, marker=style.marker(i), linewidths=0, zorder=3, label=label)
    axis.set_xlabel("confidence (%)")
    style.percent_axis(axis, "accuracy")
    axis.set_xlim(-2, 102)
    axis.set_xticks(range(0, 101, 20))
    cooled = "" if model.temperature == 1.0 else f", T {model.temperature:.3g}"
    axis.set_title(style.shorten(model.name, 30 - len(cooled)) + cooled, loc="left")
    legend = axis.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), fontsize=6.5, handletextpad=0.3)
    for handle in legend.legend_handles:
        handle.set_sizes([12])


FIGURE = RunFigure(
    record=Calibration,
    options=CalibrationOptions,
    summary="reliability diagrams: accuracy against confidence, clean and attacked",
    title="Calibration",
    caption=(
        "Accuracy of the answers by their confidence. On the dashed line a model is as often right as it says; below "
        "it, it is too sure of itself, as models tend to be under attack."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
)
