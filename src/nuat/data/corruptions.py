"""The 15 common corruptions of images (Hendrycks and Dietterich 2019, section 3), made by a package from test images.

``nuat.data.corrupted_files`` reads them from files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nuat.core.random import seed_from
from nuat.data.images import ImageSet
from nuat.errors import InputError

CATEGORIES: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""Corruptions by category, in the order of the paper."""
CORRUPTIONS = tuple(name for names in CATEGORIES.values() for name in names)
"""All 15, in the order of the paper."""
SEVERITIES = (1, 2, 3, 4, 5)

_PACKAGE = "imagecorruptions-imaug"
_ALSO = ("numba", "numpy", "opencv-python", "pillow", "scikit-image", "scipy")
"""Packages that compute the pixels for it."""
_SMALLEST = 32
"""Height and width [pixels], at least, that the package takes."""
_OWN_DRAWS = ("impulse_noise", "glass_blur")
"""Corruptions that do not draw from numpy's global generator, but take a seed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CorruptedImages:
    """Corrupted versions of n test images."""

    names: tuple[str, ...]
    """Corruptions that there are, in the order of ``CORRUPTIONS``."""
    source: str
    """Package and versions, or files, for people. Sources of one text give the same pixels."""
    take: Callable[[str, int, Tensor], Tensor]
    """Corruption, severity in 1..5 and rows, int64 [B] in 0..n-1, to uint8 [B, C, H, W] on the CPU."""
    seed: int | None = None
    """Seed of the random draws. None: of files, which need none."""
    notes: tuple[str, ...] = ()
    """Lines on what was passed over."""


def corrupted(images: ImageSet, positions: Tensor, *, seed: int = 0) -> CorruptedImages:
    """Return all corruptions of images, made when they are asked for; needs the ``corruptions`` extra.

    The package has the parameters of ImageNet-C for images of every size. On small images they are stronger than those
    of CIFAR-10-C, so accuracies under the two are not comparable. Each image has its own draws, from the seed, the
    corruption, the severity and its position: they depend neither on batches nor on the other images.

    Args:
        images: n images with three channels, at least 32 pixels high and wide.
        positions: their positions in the test set, int64 [n].
        seed: seed of the draws.

    Raises:
        InputError: grey or smaller images, or the extra is missing.

    Example:
        >>> import torch
        >>> from nuat.data import ImageSet
        >>> from nuat.data.corruptions import corrupted
        >>> images = ImageSet(torch.full((2, 3, 32, 32), 100, dtype=torch.uint8), torch.tensor([0, 1]))
        >>> made = corrupted(images, torch.arange(2))  # doctest: +SKIP
        >>> made.take("brightness", 1, torch.tensor([0])).unique()  # doctest: +SKIP
        tensor([125], dtype=torch.uint8)
    """
    if images.channels != 3:
        raise InputError(
            f"corruptions are defined for images with three channels (RGB); these have {images.channels}. Give "
            "corrupted images of your own, --corruptions FOLDER."
        )
    if min(images.image_size) < _SMALLEST:
        height, width = images.image_size
        raise InputError(
            f"the package of corruptions takes images from {_SMALLEST} x {_SMALLEST} pixels on; these have {height} x "
            f"{width}. Give corrupted images of your own, --corruptions FOLDER."
        )
    corrupt, versions = _package()
    pixels = images.images.cpu()
    pixels = pixels if pixels.dtype == torch.uint8 else (255 * pixels).round().byte()

    def take(name: str, severity: int, rows: Tensor) -> Tensor:
        made = np.empty((len(rows), *images.image_size, 3), dtype=np.uint8)
        for i, row in enumerate(rows.tolist()):
            draws = seed_from(seed, name, severity, int(positions[row]))
            own = {"seed": draws} if name in _OWN_DRAWS else {}
            np.random.seed(draws)  # noqa: NPY002  # the package draws from numpy's global generator
            made[i] = corrupt(pixels[row].permute(1, 2, 0).numpy(), severity, name, **own)
        return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()

    return CorruptedImages(names=CORRUPTIONS, source=versions, take=_leaving_numpy_alone(take), seed=seed)


def _leaving_numpy_alone(take: Callable[[str, int, Tensor], Tensor]) -> Callable[[str, int, Tensor], Tensor]:
    """Return a function that leaves the state of numpy's global generator, which is its caller's, as it was."""

    def taking(name: str, severity: int, rows: Tensor) -> Tensor:
        state = np.random.get_state()  # noqa: NPY002
        try:
            return take(name, severity, rows)
        finally:
            np.random.set_state(state)  # noqa: NPY002

    return taking


def _package() -> tuple[Callable[..., Any], str]:
    """Return the package's function and the versions, or say how to install it."""
    try:
        from imagecorruptions import corrupt

        own, also = metadata.version(_PACKAGE), ", ".join(f"{name} {metadata.version(name)}" for name in _ALSO)
    except ImportError as error:  # PackageNotFoundError is one: an older package has the same name in Python
        raise InputError(
            f"corruptions need the package {_PACKAGE}, which cannot be imported ({error}); install it with: "
            "pip install 'nuat[corruptions]'"
        ) from None
    return corrupt, f"{_PACKAGE} {own} with the parameters of ImageNet-C ({also})"
