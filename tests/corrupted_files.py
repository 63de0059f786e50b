"""Files of corrupted images as the data sets have them, of few and small images; and results on such images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nuat.data import ImageSet
from nuat.data.corruptions import CORRUPTIONS, SEVERITIES
from nuat.evaluation.corruption_results import CorruptionResults


def shifted(images: ImageSet, name: str, severity: int) -> NDArray[np.uint8]:
    """Return pixels [N, H, W, C] that differ for each corruption and severity."""
    change = 7 * CORRUPTIONS.index(name) + severity
    return (images.images.permute(0, 2, 3, 1).numpy().astype(np.int64) + change).clip(0, 255).astype(np.uint8)


def write_arrays(folder: Path, images: ImageSet, names: Sequence[str] = CORRUPTIONS) -> Path:
    """Write a folder like CIFAR-10-C."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "labels.npy", np.tile(images.labels.numpy(), len(SEVERITIES)))
    for name in names:
        np.save(folder / f"{name}.npy", np.concatenate([shifted(images, name, s) for s in SEVERITIES]))
    return folder


def write_folders(folder: Path, images: ImageSet, classes: Sequence[str], names: Sequence[str] = CORRUPTIONS) -> Path:
    """Write a folder like ImageNet-C, in a format that loses nothing; files are named in the order of the images."""
    for name in names:
        for severity in SEVERITIES:
            for i, pixels in enumerate(shifted(images, name, severity)):
                place = folder / name / str(severity) / classes[int(images.labels[i])]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"{i:04}.png")
    return folder


def colours(n: int, size: int = 6, classes: int = 3) -> ImageSet:
    """Return random images with three channels, of classes in turn."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(n) % classes)


RESULTS = 40
"""Images of ``results``."""


def flags(*shape: int, share: float = 0.6, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def results(
    names: tuple[str, ...] = CORRUPTIONS, *, share: float = 0.6, seed: int = 0, **changes: Any
) -> CorruptionResults:
    """Return results of random verdicts on corrupted images."""
    fields: dict[str, Any] = {
        "clean": flags(RESULTS, share=0.9, seed=99),
        "correct": {name: flags(5, RESULTS, share=share, seed=seed + i) for i, name in enumerate(names)},
        "indices": torch.arange(RESULTS), "source": "files of <x>", "seed": None, "batch_size": 10, "hardware": "here",
        "images": "a" * 64, "seconds": 1.5, "forwards": 76 * RESULTS, "versions": {"torch": "2"},
    }  # fmt: skip
    return CorruptionResults(**fields | changes)
