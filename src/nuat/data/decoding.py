"""Decoding of one image file to one array of pixels."""

import contextlib
import functools
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nuat.errors import InputError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif"),
)
"""Suffixes of image files, in lower case: those that torchvision lists, and others of the same formats."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats that Pillow may open. Others are never tried: one of them (EPS) starts another program."""
# Pillow's errors for a damaged file, depending on the format and the damage
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_GREY = ("1", "L", "LA")
_MAX_16_BIT = 65535
TOO_DARK = 2**14 - 1
"""Images of 16 bits per pixel without a larger value probably hold 14 bits or fewer, not scaled up."""
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # its values for a camera turned by 90 degrees
_SHRINKABLE = ("JPEG", "MPO")
_PHOTOMETRIC, _MAX_SAMPLE = 262, 281  # TIFF tags


@dataclass(frozen=True)
class Conversion:
    """Loss of a file on its way to 8 bits without transparency."""

    largest: int = -1
    """Largest value of a file of 16 bits per pixel, in 0..65535; -1: the file has another depth."""
    transparent: bool = False
    """Whether any pixel is transparent, and therefore shown on white."""
    several: bool = False
    """Whether the file holds several frames or pages, of which the first is taken."""


def decode(content: bytes, name: str, size: int | None, resize: int | None = None) -> NDArray[np.uint8]:
    """Decode an image as evaluations see it.

    The camera's orientation (EXIF) is applied. Transparent pixels are shown on white. 16-bit grey is scaled to 8 bits
    by the largest value that the file declares, otherwise by 65535. Of several frames the first is taken.

    Args:
        content: bytes of the file.
        name: name of the file, for errors.
        size: side [pixels]: the shorter side is resized to it (bicubic, antialiased), the longer cropped about the
            centre. None: the image keeps its size.
        resize: side [pixels], at least ``size``: the shorter side is resized to it, and the centre of ``size`` cut out.
            None: the shorter side is resized to ``size``.

    Returns:
        uint8 [1, H, W] if the file is greyscale, otherwise [3, H, W] (RGB).

    Raises:
        InputError: the file is not an image or is damaged.
    """
    return decode_and_tell(content, name, size, resize)[0]


def decode_and_tell(
    content: bytes, name: str, size: int | None, resize: int | None = None
) -> tuple[NDArray[np.uint8], Conversion]:
    """Decode an image as ``decode`` does, and return how it was converted."""
    with opened(content, name) as file:
        image, conversion = _described(file)
    return to_array(image) if size is None else cut_out(image, size, resize), conversion


def cut_out(image: Image.Image, size: int, resize: int | None) -> NDArray[np.uint8]:
    """Resize an image, cut out its centre and return the pixels, uint8 [C, size, size]; see ``decode``."""
    return to_array(fit(image, size) if resize is None else _centre(image, size, resize))


def check(content: bytes, name: str) -> tuple[bool, Conversion]:
    """Decode an image in the cheapest way that shows any damage.

    Returns:
        Whether it is greyscale, and how it was converted.

    Raises:
        InputError: the file is not an image or is damaged.
    """
    with opened(content, name) as file:
        shrink(file, 8)  # every bit of the file is still read
        image, conversion = _described(file)
        return image.mode == "L", conversion


@contextlib.contextmanager
def opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image for the block, without decoding it; calls that may fail on a damaged file belong in the block.

    Raises:
        InputError: the file is not an image, or is damaged.
    """
    try:
        with Image.open(BytesIO(content), formats=_formats()) as file:
            yield file
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is not one of {', '.join(_FORMATS)}"
        raise InputError(f"{name} cannot be read as an image ({reason}); replace or remove the file.") from error


def upright_size(file: Image.Image) -> tuple[int, int] | None:
    """Return the upright width and height [pixels] of an opened image, or None if only decoding tells them."""
    if file.format not in _SHRINKABLE:
        return None
    width, height = file.size
    return (height, width) if file.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def shrink(file: Image.Image, factor: float) -> float:
    """Make an opened JPEG decode at 1/2, 1/4 or 1/8 of its size, which saves most of the work.

    Args:
        file: an opened image. Other formats stay as they are.
        factor: largest reduction.

    Returns:
        The actual reduction.
    """
    whole, (width, height) = max(1, min(8, int(factor))), file.size
    if file.format not in _SHRINKABLE or whole == 1:
        return 1.0
    drafted = file.draft(None, (max(1, width // whole), max(1, height // whole)))
    return 1.0 if drafted is None else width / drafted[1][2]


def upright(file: Image.Image) -> Image.Image:
    """Decode an opened image: the right way up, in mode L (greyscale) or RGB."""
    return _converted(file)[0]


def fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` [pixels] and crop the longer about the centre."""
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)


def to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels, uint8 [C, H, W]."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that may be opened and that this Pillow reads."""
    Image.init()
    return tuple(known for known in _FORMATS if known in Image.OPEN)


def _centre(image: Image.Image, size: int, resize: int) -> Image.Image:
    """Resize the shorter side to ``resize`` and cut out the centre, rounding as torchvision does."""
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def _converted(file: Image.Image) -> tuple[Image.Image, Conversion]:
    """Decode an opened image, the right way up, to mode L (greyscale) or RGB."""
    image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16") or (image.mode == "I" and file.format == "PPM"):  # Pillow scales PPM to 16 bits
        return _from_16_bits(image, getattr(file, "tag_v2", {}))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {kind}, which have no fixed range; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        grey = image.mode in _GREY
        # by way of an alpha channel: Pillow warns that a direct conversion of palettes may lose colours
        full = image.convert("LA" if grey else "RGBA")
        opaque, alpha = full.convert("L" if grey else "RGB"), full.getchannel("A")
        least = alpha.getextrema()[0]
        if not isinstance(least, tuple) and least < 255:
            white = Image.new(opaque.mode, opaque.size, "white")
            return Image.composite(opaque, white, alpha), Conversion(transparent=True)
        return opaque, Conversion()
    return image.convert("L" if image.mode in _GREY else "RGB"), Conversion()


def _described(file: Image.Image) -> tuple[Image.Image, Conversion]:
    """Decode an opened image as ``_converted`` does, and look for further frames."""
    image, conversion = _converted(file)
    try:
        # an MPO is a JPEG of a camera or phone with a preview or a depth map
        several = file.format != "MPO" and bool(getattr(file, "is_animated", False))
    except _UNREADABLE:  # a GIF is read on, to a second frame that is damaged
        several = True
    return image, replace(conversion, several=several)


def _from_16_bits(image: Image.Image, tags: Mapping[int, Any]) -> tuple[Image.Image, Conversion]:
    """Scale 16-bit grey to 8 bits. Pillow's own conversion clips at 255, so most images would become white."""
    pixels = np.asarray(image)
    most = _MAX_16_BIT
    declared = tags.get(_MAX_SAMPLE)
    declared = declared[0] if isinstance(declared, tuple) and declared else declared
    if isinstance(declared, int) and max(1, int(pixels.max(initial=0))) <= declared <= _MAX_16_BIT:
        most = declared
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        pixels = most - pixels.astype(np.int64)
    largest = int(pixels.max(initial=0)) * _MAX_16_BIT // most
    scaled = np.rint(pixels / (most / 255.0)).astype(np.uint8)
    return Image.fromarray(scaled), Conversion(largest=largest)
