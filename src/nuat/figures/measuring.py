"""Tools of the figures that run models: named models, checks before the first one runs, generators, provenance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.core import digest
from nuat.core.random import seed_from
from nuat.data import Images, ImageSet, to_float
from nuat.errors import InputError
from nuat.evaluation.inspection import check_logits
from nuat.figures.figure_record import ModelIdentity
from nuat.hardware import describe, full_precision, versions


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model and its name in the figure."""

    identity: ModelIdentity
    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


def check_all(models: Sequence[NamedModel], images: Images) -> None:
    """Refuse models that do not take these images or lack their classes, before any model is measured.

    Raises:
        InputError: the first such model, by name.
    """
    first, classes = images.select(torch.arange(1)).images, int(images.labels.max()) + 1
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            try:
                check_logits(named.model, to_float(first.to(named.device)), classes)
            except InputError as error:
                raise InputError(f"{named.identity.name}: {error}") from None


def provenance(images: ImageSet, device: torch.device, *, seed: int, eps: float) -> dict[str, Any]:
    """Return the fields of ``ModelRecord`` for a measurement on ``images``."""
    return {
        "n": len(images),
        "seed": seed,
        "eps": eps,
        "images_sha256": digest.of_tensors(images.images, images.labels),
        "hardware": describe(device),
        "versions": versions(),
    }


def generator(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator of its own for each seed and place (of an image, of a batch)."""
    return torch.Generator(device).manual_seed(seed_from(seed, *place))


def rounded(values: Tensor) -> Any:
    """Return a tensor as nested tuples of floats with six digits: more than a figure shows, and half the file."""
    if values.ndim == 0:
        return float(f"{float(values):.6g}")
    return tuple(rounded(value) for value in values)
