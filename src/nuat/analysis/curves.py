"""What the curves of accuracy under PGD share: attack batch by batch, keep the verdict on each image at each point."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.analysis.models import NamedModel, Progress, check_all
from nuat.analysis.record import Subject
from nuat.attacks import eval_mode
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.results import flags_to_text, wilson_interval
from nuat.hardware import full_precision

Attacked = Callable[[NamedModel, Tensor, Tensor, int], list[Tensor]]
"""(model, x [B, C, H, W], y [B], position of the batch) to the images [B, C, H, W] of each point of the curve."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One model's curve."""

    subject: Subject
    """The model."""
    correct: tuple[str, ...]
    """Of each point, n characters 0 and 1: whether the model still predicts each image's label."""

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of each point, in [0, 1]."""
        return tuple(flags.count("1") / len(flags) for flags in self.correct)

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % interval of each point over images drawn like these."""
        return tuple(wilson_interval(flags.count("1"), len(flags)) for flags in self.correct)


def curves(
    models: list[NamedModel], images: ImageSet, attacked: Attacked, batch_size: int, progress: Progress | None
) -> tuple[Curve, ...]:
    """Return the curve of each model on ``images``.

    Raises:
        InputError: no images, or a model that they do not fit.
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
                    progress(named.subject.name, min(start + batch_size, len(images)), len(images))
        texts = tuple(flags_to_text(torch.cat(batches)) for batches in zip(*flags, strict=True))
        found.append(Curve(subject=named.subject, correct=texts))
    return tuple(found)
