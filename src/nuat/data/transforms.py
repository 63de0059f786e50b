"""Crop and flip of one training image, as a pure function of (seed, epoch, position).

No pixel depends on the number of worker processes or devices, or on a restart.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nuat.core.random import seed_from
from nuat.data.decoding import fit, opened, shrink, to_array, upright, upright_size

_STRETCH = 4 / 3
_TRIES = 10
_SPARE = 2.0
"""A JPEG may be decoded at a reduced size, but at least this many times the wanted one: the final resize needs pixels
to average."""


@dataclass(frozen=True)
class TrainingView:
    """Crop and flip of training images."""

    size: int
    """Side of the result [pixels]."""
    crop_scale: float | None
    """Random resized crop of the original image: least fraction of its area. None: no such crop."""
    crop_padding: int
    """Random crop after resizing: zeros [pixels] on each side."""
    flip: bool
    """Whether images are mirrored with probability 1/2."""


class Draws:
    """Random numbers for one image in one epoch."""

    def __init__(self, seed: int, epoch: int, position: int) -> None:
        self._bits = np.random.Philox(key=seed_from("view", seed, epoch, position, bits=128))

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        # raw bits: numpy guarantees their sequence across versions
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def below(self, n: int) -> int:
        """Return an integer in 0..n-1."""
        return min(n - 1, int(n * self.uniform()))


def training_view(content: bytes, name: str, view: TrainingView, draws: Draws) -> NDArray[np.uint8]:
    """Decode an image, then crop and flip it for training.

    With ``crop_scale`` a random box of the original image is cut out, chosen as in torchvision's RandomResizedCrop, and
    resized (bilinear, antialiased). Without it the image is resized and cropped as evaluations without ``eval_resize``
    do it, and shifted by up to ``crop_padding``.

    Args:
        content: bytes of the file.
        name: name of the file, for errors.
        view: the settings.
        draws: random numbers of this image.

    Returns:
        uint8 [1, size, size] if the file is greyscale, otherwise [3, size, size] (RGB).

    Raises:
        InputError: the file is not an image or is damaged.
    """
    flipped = draws.uniform() < 0.5
    with opened(content, name) as file:
        if view.crop_scale is None:
            pixels = _shifted(to_array(fit(upright(file), view.size)), view.crop_padding, draws)
        else:
            pixels = to_array(_cropped(file, view.size, view.crop_scale, draws))
    return pixels[:, :, ::-1] if view.flip and flipped else pixels


def crop_box(width: int, height: int, scale: float, draws: Draws) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom [pixels] of a random box in an image, chosen as in torchvision.

    Its area is uniform in [scale, 1] times the image's, the ratio of its sides log-uniform in [3/4, 4/3], its place
    uniform. If none of ten tries fits, the box is the largest central one whose ratio is in that range.
    """
    for _ in range(_TRIES):
        area = width * height * (scale + (1.0 - scale) * draws.uniform())
        ratio = math.exp((2.0 * draws.uniform() - 1.0) * math.log(_STRETCH))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = draws.below(width - w + 1), draws.below(height - h + 1)
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * _STRETCH))), min(height, max(1, round(width * _STRETCH)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _cropped(file: Image.Image, size: int, scale: float, draws: Draws) -> Image.Image:
    seen = upright_size(file)
    if seen is None:
        image = upright(file)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=crop_box(*image.size, scale, draws))
    left, top, right, bottom = crop_box(*seen, scale, draws)
    by = shrink(file, min(right - left, bottom - top) / (_SPARE * size))
    box = (left / by, top / by, right / by, bottom / by)
    return upright(file).resize((size, size), Image.Resampling.BILINEAR, box=box)


def _shifted(pixels: NDArray[np.uint8], padding: int, draws: Draws) -> NDArray[np.uint8]:
    if padding == 0:
        return pixels
    _, height, width = pixels.shape
    top, left = draws.below(2 * padding + 1), draws.below(2 * padding + 1)
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding)))
    return padded[:, top : top + height, left : left + width]
