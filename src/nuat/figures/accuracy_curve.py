"""Curves of accuracy under PGD: verdicts on each image at each point, the table, and lines with 95 % bands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from nuat.attacks import eval_mode
from nuat.core.intervals import wilson_interval
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.results import flags_to_text
from nuat.figures import style
from nuat.figures.figure_record import ModelIdentity, require
from nuat.figures.measuring import NamedModel, check_all
from nuat.hardware import full_precision
from nuat.progress import Progress

Attacked = Callable[[NamedModel, Tensor, Tensor, int], list[Tensor]]
"""(model, x [B, C, H, W], y [B], position of the batch) to the images [B, C, H, W] at each point of the curve."""


@dataclass(frozen=True, kw_only=True)
class AccuracyCurve:
    """Curve of one model."""

    subject: ModelIdentity
    """The model."""
    correct: tuple[str, ...]
    """For each point, n characters 0 and 1: whether the model still predicts the label of each image."""

    def __post_init__(self) -> None:
        sizes = {len(flags) for flags in self.correct}
        require(len(sizes) == 1 and 0 not in sizes, "a character 0 or 1 for each image, at each point")
        require(set("".join(self.correct)) <= {"0", "1"}, "verdicts of characters 0 and 1")

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy at each point, in [0, 1]."""
        return tuple(flags.count("1") / len(flags) for flags in self.correct)

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % interval at each point, over images drawn like these."""
        return tuple(wilson_interval(flags.count("1"), len(flags)) for flags in self.correct)


def accuracy_curves(
    models: list[NamedModel], images: ImageSet, attacked: Attacked, batch_size: int, progress: Progress | None
) -> tuple[AccuracyCurve, ...]:
    """Return the curve of each model on ``images``.

    Raises:
        InputError: no images, or a model that does not take them.
    """
    if batch_size < 1 or len(images) == 0:
        raise InputError(f"batch_size={batch_size}, {len(images)} images: expected at least 1 of each.")
    images = images.to(models[0].device)
    check_all(models, images)
    found = []
    for named in models:
        flags: list[list[Tensor]] = []
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            for start in range(0, len(images), batch_size):
                x, y = to_float(images.images[start : start + batch_size]), images.labels[start : start + batch_size]
                points = attacked(named, x, y, start)
                with torch.no_grad():
                    flags.append([(named.model(point).argmax(dim=1) == y).cpu() for point in points])
                if progress is not None:
                    progress(named.identity.name, min(start + batch_size, len(images)), len(images))
        texts = tuple(flags_to_text(torch.cat(batches)) for batches in zip(*flags, strict=True))
        found.append(AccuracyCurve(subject=named.identity, correct=texts))
    return tuple(found)


def check_curves(curves: Sequence[AccuracyCurve], points: int, n: int) -> None:
    """Refuse curves of a record that do not have ``points`` points of ``n`` images each.

    Raises:
        InputError: no curve, or another number of points or images.
    """
    require(bool(curves), "at least one model")
    require(all(len(curve.correct) == points for curve in curves), f"{points} points of each curve")
    require(all(len(curve.correct[0]) == n for curve in curves), f"verdicts on {n} images")


def accuracy_table(head: str, places: Sequence[str], curves: Sequence[AccuracyCurve]) -> Table:
    """Return the accuracies in %, one row per point and one column per model; ``head`` names the points."""
    table = Table(title="Accuracy in % under PGD, with 95 % intervals", title_justify="left")
    table.add_column(head, justify="right")
    for curve in curves:
        table.add_column(curve.subject.name, justify="right")
    for i, place in enumerate(places):
        cells = []
        for curve in curves:
            low, high = curve.intervals[i]
            cells.append(f"{100 * curve.accuracies[i]:.1f} ({100 * low:.1f}-{100 * high:.1f})")
        table.add_row(place, *cells)
    return table


def draw_curves(axis: Any, curves: Sequence[tuple[Sequence[float], AccuracyCurve]]) -> None:
    """Draw accuracies in % over the places of each curve, with their intervals as a band, and a legend."""
    for i, (places, curve) in enumerate(curves):
        shade = style.colour(i)
        low, high = ([100 * interval[end] for interval in curve.intervals] for end in (0, 1))
        axis.fill_between(places, low, high, color=shade, alpha=0.18, linewidth=0)
        axis.plot(
            places,
            [100 * accuracy for accuracy in curve.accuracies],
            color=shade,
            marker=style.marker(i),
            markersize=3,
            label=style.shorten(curve.subject.name),
        )
    style.percent_axis(axis, "accuracy")
    outside = len(curves) > 4
    axis.legend(loc="center left" if outside else "best", bbox_to_anchor=(1.01, 0.5) if outside else None)
