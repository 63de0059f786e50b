"""The bytes of one image file to one array of pixels."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

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
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # its values where the camera lay on its side
_SHRINKABLE = ("JPEG", "MPO")


def decode(content: bytes, name: str, size: int | None, resize: int | None = None) -> NDArray[np.uint8]:
    """Decode an image as evaluations see it.

    The orientation that a camera noted (EXIF) is applied. Transparency is dropped, 16-bit grey is scaled to 8 bits.

    Args:
        content: of the file.
        name: of the file, for the error.
        size: side [pixels]; the shorter side is resized to it (bicubic, antialiased) and the longer is cropped about
            the centre. None: the image stays as it is.
        resize: side [pixels], at least ``size``: the shorter side is resized to this instead, and the centre of
            ``size`` cut out.

    Returns:
        uint8 [1, H, W] where the file is greyscale, otherwise [3, H, W] (RGB).

    Raises:
        InputError: the file is no image or is damaged.
    """
    with opened(content, name) as file:
        image = upright(file)
    if size is not None and resize is not None:
        image = _centre(image, size, resize)
    elif size is not None:
        image = fit(image, size)
    return to_array(image)


def check(content: bytes, name: str) -> bool:
    """Decode an image as cheaply as shows any damage; return whether it is greyscale.

    Raises:
        InputError: the file is no image or is damaged.
    """
    with opened(content, name) as file:
        shrink(file, 8)  # every bit of the file is still read
        return upright(file).mode == "L"


@contextlib.contextmanager
def opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image for the block, which should do what may fail on a damaged one: nothing is decoded yet.

    Raises:
        InputError: the file is no image or, in the block, damaged.
    """
    try:
        with Image.open(BytesIO(content)) as file:
            yield file
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} cannot be read as an image ({reason}); replace or remove the file.") from error


def upright_size(file: Image.Image) -> tuple[int, int] | None:
    """Return width and height [pixels] of an opened image as it is to be seen; None where only decoding tells."""
    if file.format not in _SHRINKABLE:
        return None
    width, height = file.size
    return (height, width) if file.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def shrink(file: Image.Image, factor: float) -> float:
    """Let an opened JPEG decode at 1/2, 1/4 or 1/8 of its size, which saves most of the work.

    Args:
        file: an opened image; of another format it stays as it is.
        factor: by which it may shrink at most.

    Returns:
        The factor by which it does.
    """
    whole, (width, height) = max(1, min(8, int(factor))), file.size
    if file.format not in _SHRINKABLE or whole == 1:
        return 1.0
    drafted = file.draft(None, (max(1, width // whole), max(1, height // whole)))
    return 1.0 if drafted is None else width / drafted[1][2]


def upright(file: Image.Image) -> Image.Image:
    """Decode an opened image: the right way up, in mode L (greyscale) or RGB."""
    return _to_8_bits(ImageOps.exif_transpose(file))


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` [pixels] and crop the longer about the centre."""
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels, uint8 [C, H, W]."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _centre(image: Image.Image, size: int, resize: int) -> Image.Image:
    """Resize the shorter side to ``resize`` and cut out the centre, with torchvision's roundings."""
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


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
