"""How fast one worker decodes images: measured on a made-up photograph, as none need be there."""

import io
import statistics
import time

import numpy as np
from PIL import Image

from nuat.data.transforms import Draws, TrainingView, training_view

PHOTO = (375, 500)
"""Height and width [pixels] of the made-up photograph, about those of ImageNet's."""
_QUALITY = 90
_CROP = 0.08
"""Least area of the crop, ImageNet's."""
_GRAIN = 18.0
"""Standard deviation of the photograph's grain: with it the file is of a size that ImageNet's have (about 110 kB)."""


def photograph() -> Image.Image:
    """Return smooth shades under grain, which compress about as photographs do."""
    draw = np.random.default_rng(0)
    height, width = PHOTO
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shades = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = draw.normal(0.0, _GRAIN, (height, width, 1))
    return Image.fromarray((shades + grain).clip(0, 255).astype(np.uint8))


def decode_seconds(size: int, seconds: float = 0.5) -> tuple[float, int]:
    """Return the seconds in which one process decodes, crops and resizes the photograph to ``size``, and its bytes."""
    file = io.BytesIO()
    photograph().save(file, "JPEG", quality=_QUALITY)
    view = TrainingView(size=size, crop_scale=_CROP, crop_padding=0, flip=True)
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < 3:
        clock = time.perf_counter()
        training_view(file.getvalue(), "the made-up photograph", view, Draws(0, 0, len(taken))).copy()
        taken.append(time.perf_counter() - clock)
    return statistics.median(taken), file.getbuffer().nbytes
