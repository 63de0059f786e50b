"""Accuracy over the severity of each common corruption: small multiples, several models side by side.

Drawn from the results of ``nuat evaluate --suite corruptions``.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.table import Table

from nuat.data.corruptions import CATEGORIES, CORRUPTIONS, SEVERITIES
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.figures import style
from nuat.figures.common_options import RunOptions
from nuat.figures.figure_record import FigureRecord, require
from nuat.figures.kind import RunFigure
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8
"""Models that fit into one figure."""
_MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class CorruptionOptions(RunOptions):
    """Accuracy over the severity of each common corruption, from the results of evaluations."""


@dataclass(frozen=True, kw_only=True)
class CorruptionCurve:
    """Curves of one model."""

    name: str
    """Name of the model in the figure."""
    clean: tuple[float, float, float]
    """Accuracy without corruption and the ends of its 95 % interval, in [0, 1]."""
    points: dict[str, tuple[tuple[float, float, float], ...]]
    """The same at each severity of each corruption, and of "mean", over all corruptions that were there."""

    def __post_init__(self) -> None:
        require(set(self.points) <= {*CORRUPTIONS, _MEAN}, "the common corruptions")
        require(_MEAN in self.points and len(self.points) > 1, "a corruption and the mean")
        require(all(len(points) == len(SEVERITIES) for points in self.points.values()), "five severities")


@dataclass(frozen=True, kw_only=True)
class CorruptionCurves(FigureRecord):
    """Accuracy over the severity of corruptions, of several models on the same images."""

    kind: ClassVar[str] = "corruptions"

    n: int
    """Number of test images."""
    images_sha256: str
    """SHA-256 of the images and their labels, as in an evaluation."""
    source: str
    """Package and versions, or files, that the corrupted images came from."""
    models: tuple[CorruptionCurve, ...]
    """Curves in the order of the models."""

    def __post_init__(self) -> None:
        require(self.n >= 1 and bool(self.models), "n >= 1 and a model")
        require(len({frozenset(model.points) for model in self.models}) == 1, "the same corruptions of all models")


def corruption_curves(models: Sequence[tuple[str, CorruptionResults]]) -> CorruptionCurves:
    """Return the curves of models, each with its name.

    Raises:
        InputError: no model, too many, or models that were not evaluated on the same corrupted images.
    """
    if not 1 <= len(models) <= MOST:
        raise InputError(f"{len(models)} models do not fit into one figure of corruptions; name 1 to {MOST}.")
    for what, told in (
        ("images", lambda found: found.images),
        ("sources of the corrupted images", lambda found: f"{found.source}, seed {found.seed}"),
        ("corruptions", lambda found: ", ".join(found.correct)),
    ):
        firsts: dict[str, str] = {}
        for name, found in models:
            firsts.setdefault(told(found), name)
        if len(firsts) > 1:
            (a, one), (b, other) = list(firsts.items())[:2]
            raise InputError(f"{one} and {other} have different {what}: {a} and {b}; evaluate them alike.")
    first = models[0][1]
    return CorruptionCurves(
        n=first.n,
        images_sha256=first.images,
        source=first.source,
        models=tuple(
            CorruptionCurve(
                name=name,
                clean=_point(found, "clean"),
                points={
                    row: tuple(_point(found, row, severity) for severity in SEVERITIES)
                    for row in (*found.correct, _MEAN)
                },
            )
            for name, found in models
        ),
    )


def _point(found: CorruptionResults, name: str, severity: int | None = None) -> tuple[float, float, float]:
    low, high = found.interval(name, severity)
    return round(found.accuracy(name, severity), 6), round(low, 6), round(high, 6)


def _measure(asked: CorruptionOptions, runs: Sequence[FinishedRun], reporter: TerminalReporter) -> CorruptionCurves:
    counts = Counter(run.name for run in runs)
    named = []
    for run in runs:
        if run.corruptions is None:
            raise InputError(
                f"{run.folder}: holds no results on corrupted images; 'nuat evaluate {run.folder} --suite corruptions' "
                "writes them."
            )
        named.append((f"{run.name}, seed {run.seed}" if counts[run.name] > 1 else run.name, run.corruptions))
    return corruption_curves(named)


def _table(record: CorruptionCurves) -> Table:
    table = Table(title="Accuracy in % under corruptions, mean of the severities", title_justify="left")
    table.add_column("corruption")
    for model in record.models:
        table.add_column(model.name, justify="right")
    table.add_row("none", *(f"{100 * model.clean[0]:.1f}" for model in record.models))
    for name in record.models[0].points:
        means = [sum(point[0] for point in model.points[name]) / len(SEVERITIES) for model in record.models]
        table.add_row(name, *(f"{100 * mean:.1f}" for mean in means))
    return table


def draw(records: Sequence[CorruptionCurves]) -> "Figure":
    """Draw a row of small multiples for each category, and the mean in the corner that the three noises leave."""
    models = [model for record in records for model in record.models]
    if len({(record.n, record.images_sha256, record.source, *record.models[0].points) for record in records}) > 1:
        raise InputError("records of other images or corruptions cannot share a figure.")
    figure = style.new_figure(style.WIDTH, 6.4)
    axes = figure.subplots(len(CATEGORIES), 4, sharex=True, sharey=True)
    for row, names in zip(axes, CATEGORIES.values(), strict=True):
        for axis, name in zip(row, (*names, _MEAN), strict=False):
            _panel(axis, name, models)
    for row, category in zip(axes, CATEGORIES, strict=True):
        row[0].set_ylabel(f"{category}\naccuracy (%)")
    for axis in axes[-1]:
        axis.set_xlabel("severity")
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(len(models), 4))
    first = records[0]
    told = f"{first.n:,} test images; severity 0 is no corruption; bands: 95 % over images."
    style.note(figure, [told, f"Corrupted images: {first.source}."])
    return figure


def _panel(axis: Any, name: str, models: Sequence[CorruptionCurve]) -> None:
    """Draw one corruption, or the mean of those that were there."""
    there = [(i, model) for i, model in enumerate(models) if name in model.points]
    few = len(models[0].points) - 1
    title = f"mean of {few}" if name == _MEAN else name.removesuffix("_compression").replace("_", " ")
    axis.set_title(title, fontsize=7.5, fontweight="bold" if name == _MEAN else "normal")
    axis.set_ylim(0, 100)
    axis.set_xticks((0, *SEVERITIES))
    for i, model in there:
        points = (model.clean, *model.points[name])
        value, low, high = ([100 * point[end] for point in points] for end in range(3))
        places = range(len(points))
        axis.fill_between(places, low, high, color=style.colour(i), alpha=0.18, linewidth=0)
        axis.plot(
            places, value, color=style.colour(i), marker=style.marker(i), markersize=2.5, linewidth=1.1,
            label=style.shorten(model.name),
        )  # fmt: skip
    if not there:
        axis.text(2.5, 50, "not there", ha="center", va="center", fontsize=style.SMALL, color=style.GREY)


FIGURE = RunFigure(
    record=CorruptionCurves,
    options=CorruptionOptions,
    summary="accuracy over the severity of 15 common corruptions, from results of nuat evaluate",
    title="Common corruptions",
    caption=(
        "Accuracy over the severity of the common corruptions (Hendrycks and Dietterich 2019); no attack is involved. "
        "Higher is better, and a flat line is a model that the corruption does not disturb."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
)
