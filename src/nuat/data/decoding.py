"""One image file to one array of pixels."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nuat.errors import InputError

# what Pillow's plugins raise on a damaged file, depending on the format and the damage
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L")


def decode(path: Path, size: int | None) -> NDArray[np.uint8]:
    """Read an image file.

    The orientation that a camera noted (EXIF) is applied. Transparency is dropped, 16-bit grey is scaled to 8 bits.

    Args:
        path: of the file.
        size: side [pixels]; the shorter side is resized to it (bicubic, antialiased) and the longer is cropped about
            the centre. None: the image stays as it is.

    Returns:
        uint8 [1, H, W] where the file is greyscale, otherwise [3, H, W] (RGB).

    Raises:
        InputError: the file is no image or is damaged.
    """
    try:
        with Image.open(path) as file:
            image = _to_8_bits(ImageOps.exif_transpose(file))
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as an image ({reason}); replace or remove the file.") from error
    if size is not None:
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Return the image in mode L (greyscale) or RGB."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which would leave most of a 16-bit image white
        return Image.fromarray(np.rint(np.asarray(image) / 257.0).astype(np.uint8))
    if image.mode in _GREY:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        # by way of RGBA, as Pillow warns that the direct conversion may lose colours
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
