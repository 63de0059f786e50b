"""What the analyses that run a model share: models with their names, and what a record says of the measurement."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.analysis.record import Subject
from nuat.attacks import eval_mode
from nuat.core import digest
from nuat.core.random import seed_from
from nuat.data import Images, ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.inspection import check_logits
from nuat.hardware import describe, full_precision, versions

Progress = Callable[[str, int, int], None]
"""Called with what is under way, the parts finished, and the parts in all."""


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model and who it is."""

    subject: Subject
    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


def check_all(models: Sequence[NamedModel], images: Images) -> None:
    """Refuse a model that the images or their classes do not fit, before any is measured.

    Raises:
        InputError: the first such model; it is named.
    """
    first, classes = images.select(torch.arange(1)).images, int(images.labels.max()) + 1
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            try:
                check_logits(named.model, to_float(first.to(named.device)), classes)
            except InputError as error:
                raise InputError(f"{named.subject.name}: {error}") from None


def measured(images: ImageSet, device: torch.device, *, seed: int, eps: float) -> dict[str, Any]:
    """Return the fields of ``Measured`` for a measurement on ``images``."""
    return {
        "n": len(images),
        "seed": seed,
        "eps": eps,
        "images_sha256": digest.of_tensors(images.images, images.labels),
        "hardware": describe(device),
        "versions": versions(),
    }


def generator(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that no other seed or place (of an image, of a batch) shares."""
    return torch.Generator(device).manual_seed(seed_from(seed, *place))


def numbers(values: Tensor) -> Any:
    """Return a tensor as nested tuples of floats: six digits are more than a figure shows, and half the file."""
    if values.ndim == 0:
        return float(f"{float(values):.6g}")
    return tuple(numbers(value) for value in values)
