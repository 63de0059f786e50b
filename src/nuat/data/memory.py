"""Images of a folder or of shards, all decoded into memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nuat.data.cache import cache_key, read_cache, write_cache
from nuat.data.decoding import Conversion, cut_out, decode, decode_and_tell
from nuat.data.images import Images, ImageSet, UnsplitData, check_scale
from nuat.data.samples import Parts, Samples
from nuat.data.verification import (
    KEPT_NAMES,
    Bad,
    OnBad,
    bad_names,
    check_classes,
    conversion_notes,
    each,
    settle,
)
from nuat.errors import InputError


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Pixels of N files, some of which may be bad."""

    images: NDArray[np.uint8]
    """[N - bad, C, H, W]."""
    largest: NDArray[np.int32]
    """[N], see ``Verified``."""
    transparent: NDArray[np.bool_]
    """[N], see ``Verified``."""
    several: NDArray[np.bool_]
    """[N], see ``Verified``."""
    bad: tuple[Bad, ...]


def read(
    parts: Parts, image_size: int | None, cache: Path, *, eval_resize: int | None = None, on_bad: OnBad = "refuse"
) -> UnsplitData:
    """Decode all parts of a data set.

    The images have one channel if all of them are greyscale, otherwise three. Decoded pixels are kept in
    ``cache/folders``, under a name made from the settings and the files' paths, sizes and times. Delete that folder to
    free the space.

    Args:
        parts: samples of the folder.
        image_size: side [pixels] that images are resized and cropped to. None: all images have one size already.
        cache: folder that keeps the decoded images.
        eval_resize: see ``DataConfig``. It does not affect training images.
        on_bad: see ``DataConfig``.

    Raises:
        InputError: files are damaged and ``on_bad`` refuses them, sizes differ and no image_size is given, or no pixel
            is above 1.
    """
    decoded = _decoded(parts, image_size, eval_resize, cache, on_bad)
    notes = conversion_notes(parts, decoded.largest, decoded.transparent, decoded.several)
    check_scale(int(decoded.images.max(initial=0)), parts.description)
    good = np.ones(sum(map(len, parts.all)), dtype=np.bool_)
    good[[one.position for one in decoded.bad]] = False
    check_classes(parts, good[: len(parts.train)])
    sets, kept, start = [], 0, 0
    for samples in parts.all:
        of_part = good[start : start + len(samples)]
        stop = kept + int(of_part.sum())
        labels = torch.from_numpy(samples.labels[of_part])
        sets.append(ImageSet(torch.from_numpy(decoded.images[kept:stop]), labels))
        start, kept = start + len(samples), stop
    held_out = None
    if image_size is not None and eval_resize is not None:
        train = parts.train.take(good[: len(parts.train)])
        held_out = _evaluated(train, sets[0].channels, image_size, eval_resize)
    return UnsplitData(
        train=sets[0],
        test=sets[-1],
        classes=parts.classes,
        description=parts.description,
        validation=sets[1] if len(sets) == 3 else None,
        held_out=held_out,
        notes=(*parts.notes, *notes),
        skipped=len(decoded.bad),
        skipped_names=bad_names(parts, decoded.bad)[:KEPT_NAMES],
    )


def decode_evaluated(samples: Samples, channels: int, size: int, resize: int | None) -> ImageSet:
    """Decode samples in parallel, as evaluations see them.

    Args:
        samples: samples to decode.
        channels: C of the images.
        size: side [pixels].
        resize: see ``DataConfig.eval_resize``.

    Raises:
        InputError: a sample cannot be read or decoded.
    """
    images = np.empty((len(samples), channels, size, size), dtype=np.uint8)
    decoded = each([samples], lambda part, i: decode(part.read(i), part.name(i), size, resize), "Decoding images")
    for i, pixels in enumerate(decoded):
        if isinstance(pixels, InputError):
            raise pixels
        place(pixels, images[i], samples.name(i))
    return ImageSet(torch.from_numpy(images), torch.from_numpy(samples.labels))


def resized(source: UnsplitData, size: int, resize: int | None = None) -> UnsplitData:
    """Resize and crop the images of an array to ``size`` [pixels], as those of files.

    Args:
        source: images in memory.
        size: side [pixels] of the images.
        resize: see ``DataConfig.eval_resize``. It does not affect training images.
    """
    notes = source.notes
    if source.train.image_size == source.test.image_size == (size, size) and resize in (None, size):
        notes += (f"data.image_size={size} has no effect, as the images have this size; leave it out",)
    return replace(
        source,
        notes=notes,
        train=_fitted(source.train, size, None),
        test=_fitted(source.test, size, resize),
        held_out=None if resize is None else lambda indices: _fitted(source.train.select(indices), size, resize),
    )


def _fitted(images: Images, size: int, resize: int | None) -> ImageSet:
    given = images.select(torch.arange(len(images)))
    pixels = np.empty((len(given), given.channels, size, size), dtype=np.uint8)
    for i, image in enumerate(given.images.numpy()):
        pixels[i] = cut_out(Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)), size, resize)
    return ImageSet(torch.from_numpy(pixels), given.labels)


def place(pixels: NDArray[np.uint8], into: NDArray[np.uint8], name: str) -> None:
    """Copy an image [1 or C, H, W] to its place [C, H, W]; a single channel is repeated.

    Raises:
        InputError: the image has colours, though all were grey when they were checked.
    """
    if len(pixels) > len(into):
        raise InputError(f"{name} has colours, but all images were grey when they were checked; start again.")
    into[:] = pixels


def _evaluated(train: Samples, channels: int, size: int, resize: int) -> Callable[[Tensor], ImageSet]:
    return lambda indices: decode_evaluated(train.take(indices.numpy()), channels, size, resize)


def _decoded(parts: Parts, image_size: int | None, eval_resize: int | None, cache: Path, on_bad: OnBad) -> _Decoded:
    """Return the pixels of all files, from the cache if it has them."""
    n = sum(map(len, parts.all))
    key = cache_key(parts.kind, f"{image_size}" if eval_resize is None else f"{image_size} {eval_resize}", parts.all)
    path = cache / "folders" / f"{key}.npz"
    decoded = _known(path, n)
    if decoded is not None:
        settle(decoded.bad, bad_names(parts, decoded.bad), n, on_bad)
        return decoded
    decoded = _decode_all(parts, image_size, eval_resize)
    settle(decoded.bad, bad_names(parts, decoded.bad), n, on_bad)
    arrays: dict[str, NDArray[Any]] = {
        "images": decoded.images,
        "largest": decoded.largest,
        "transparent": decoded.transparent,
        "several": decoded.several,
    }
    if decoded.bad:
        arrays["undecodable"] = np.array([one.position for one in decoded.bad])
        arrays["reasons"] = np.array([one.reason for one in decoded.bad], dtype=np.str_)
    write_cache(path, **arrays)
    return decoded


def _known(path: Path, n: int) -> _Decoded | None:
    """Return what the cache holds, or None if it has no whole file for these ``n`` samples."""
    kept = read_cache(path)
    if kept is None or not kept.keys() >= {"images", "largest", "transparent", "several"}:
        return None
    images: NDArray[np.uint8] = kept["images"]
    bad = kept["undecodable"].tolist() if "undecodable" in kept else []
    reasons = kept["reasons"].tolist() if "reasons" in kept else []
    largest, transparent, several = kept["largest"], kept["transparent"], kept["several"]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) + len(bad) != n or len(bad) != len(reasons):
        return None
    if not len(largest) == len(transparent) == len(several) == n:
        return None
    reasons_of = zip(bad, reasons, strict=True)
    return _Decoded(images, largest, transparent, several, tuple(Bad(at, why, unread=False) for at, why in reasons_of))


def _decode_all(parts: Parts, image_size: int | None, eval_resize: int | None) -> _Decoded:
    def view(samples: Samples, i: int) -> tuple[NDArray[np.uint8], Conversion]:
        resize = None if samples is parts.train else eval_resize
        return decode_and_tell(samples.read(i), samples.name(i), image_size, resize)

    n = sum(map(len, parts.all))
    images: NDArray[np.uint8] = np.empty((0, 3, 0, 0), dtype=np.uint8)
    good, first = np.ones(n, dtype=np.bool_), -1
    largest, transparent = np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.bool_)
    several = np.zeros(n, dtype=np.bool_)
    bad: list[Bad] = []
    greyscale = True
    for i, found in enumerate(each(parts.all, view, "Decoding images")):
        if isinstance(found, InputError):
            good[i] = False
            bad.append(Bad.of(i, found))
            continue
        pixels, conversion = found
        largest[i], transparent[i], several[i] = conversion.largest, conversion.transparent, conversion.several
        if first < 0:
            first, images = i, np.empty((n, 3, *pixels.shape[1:]), dtype=np.uint8)
        if pixels.shape[1:] != images.shape[2:]:
            one, other = parts.names([first, i])
            raise InputError(
                f"{one} is {images.shape[3]}x{images.shape[2]} pixels but {other} is "
                f"{pixels.shape[2]}x{pixels.shape[1]}; give --data.image-size to resize and crop all of them."
            )
        images[i] = pixels  # a single channel is repeated
        greyscale = greyscale and len(pixels) == 1
    kept = images[good[: len(images)]] if bad else images
    return _Decoded(np.ascontiguousarray(kept[:, :1]) if greyscale else kept, largest, transparent, several, tuple(bad))
