"""Images given from Python: tensors and arrays with labels, loaders, data sets and names, as labelled images.

Nothing is guessed: a layout, type or range that can be read in two ways is refused with the remedy.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nuat.config import DataConfig
from nuat.data.images import Dataset, Images, ImageSet, check_levels, to_float
from nuat.data.npz import remedy
from nuat.data.sets import SETS
from nuat.data.sources import load
from nuat.errors import InputError, did_you_mean

Array: TypeAlias = Tensor | NDArray[Any]
"""A tensor, or an array of numpy."""
ImageSource: TypeAlias = Images | Dataset | DataConfig | DataLoader[Any] | TorchDataset[Any] | Array | str
"""Images: a tensor or array, which needs labels; or anything that brings its labels."""
_CHANNELS = (1, 3)
_BATCH = 250
"""Images that are read at once from a data set of torch."""
_SET = "nuat.data.ImageSet(images, labels) takes [N, C, H, W] with any number of channels"


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenImages:
    """Images as the caller gave them."""

    images: Images
    """Images with labels; floats that are multiples of 1/255 are kept as uint8, which loses nothing."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the labels. Empty: not known."""
    source: str = "the images"
    """Source of the images, for messages."""
    notes: tuple[str, ...] = ()
    """Lines on what was passed over."""


def given_images(
    x: ImageSource, y: Array | Sequence[int] | None = None, *, path: Path | str | None = None
) -> GivenImages:
    """Return images with labels.

    Args:
        x: images, float in [0, 1] or uint8, [n, C, H, W], [n, H, W, C] or [n, H, W] with one or three channels; a
            DataLoader or torch Dataset of (image, label); an ``ImageSet``; a ``Dataset``, whose test part is taken; or
            the name or settings of a data set, whose test part is read.
        y: integer labels [n] of a tensor or array. None: ``x`` brings its labels.
        path: images of a named data set that is not read from the cache: an .npz file or a folder.

    Raises:
        InputError: a layout, type, range or label that has no meaning, or more than one; the message has the remedy.
    """
    if path is not None and not isinstance(x, str):
        raise InputError(f"path={str(path)!r} has no effect on a {_kind(x)}; it goes with the name of a data set.")
    if isinstance(x, Tensor | np.ndarray):
        if y is None:
            raise InputError(f"y: a {_kind(x)} of images needs its labels; give y, integers [n].")
        pixels = _pixels(x)
        return GivenImages(images=_image_set([pixels], [_labels(y, len(pixels))]))
    if y is not None:
        raise InputError(f"y has no effect: a {_kind(x)} brings its labels; leave y out.")
    if isinstance(x, str):
        x = DataConfig(name=_known(x), path=None if path is None else Path(path), validation=0)
    if isinstance(x, DataConfig):
        x = load(x, needs_train=False)
    if isinstance(x, Dataset):
        return GivenImages(images=x.test, classes=x.classes, source=x.source)
    if isinstance(x, DataLoader):
        return _loaded(x)
    if isinstance(x, TorchDataset):
        return _loaded(DataLoader(x, batch_size=_BATCH))
    if not isinstance(x, Images):
        raise InputError(
            f"x: expected images with labels; got a {_kind(x)}. Give a tensor or array and its labels, x and y, as two "
            "arguments; or a DataLoader, a data set, or the name of one."
        )
    return GivenImages(images=x)


def _kind(x: object) -> str:
    return "name" if isinstance(x, str) else type(x).__name__


def _known(name: str) -> str:
    if name not in SETS:
        readable = [known for known, row in SETS.items() if row.read is not None]
        raise InputError(
            f"x={name!r}: no such data set.{did_you_mean(name, SETS)} Known: {', '.join(readable)}; for other "
            "images give nuat.config.DataConfig(path=...)."
        )
    return name


def _loaded(loader: DataLoader[Any]) -> GivenImages:
    """Return all images of a loader, in its order."""
    pixels: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        for batch in loader:
            if not isinstance(batch, tuple | list) or len(batch) < 2:
                raise InputError(
                    f"x: the loader gives a {_kind(batch)} as a batch; expected (images, labels). Wrap the data set so "
                    "that it returns these two."
                )
            pixels.append(_pixels(batch[0]).cpu())
            labels.append(_labels(batch[1], len(batch[0])).cpu())
    except (TypeError, RuntimeError) as error:  # torch's words for items that make no batch
        reason = " ".join(str(error).split())
        raise InputError(
            f"x: the data set gives no batches of tensors ({reason[:200]}); give it a transform that returns images "
            "of one size, such as torchvision's ToTensor."
        ) from error
    if not labels:
        raise InputError("x: the loader gives no images.")
    found, there = sum(map(len, labels)), len(loader.dataset) if isinstance(loader.dataset, Sized) else None
    passed_over = (
        f"the loader gives {found} of the {there} images of its data set; check drop_last and its sampler."
        if there is not None and found != there
        else ""
    )
    return GivenImages(images=_image_set(pixels, labels), notes=tuple(filter(None, [passed_over])))


def _image_set(pixels: list[Tensor], labels: list[Tensor]) -> ImageSet:
    """Return batches as one set: uint8 if all of them are."""
    if any(part.dtype != torch.uint8 for part in pixels):
        pixels = [to_float(part) for part in pixels]
    images = torch.cat(pixels)
    if images.dtype == torch.uint8 and len(images):
        check_levels(int(images.max()), "x")
    return ImageSet(images, torch.cat(labels).to(images.device))


def _pixels(x: object) -> Tensor:
    """Return images as uint8 [n, C, H, W], or as float32 where they are no multiples of 1/255."""
    if not isinstance(x, Tensor | np.ndarray):
        raise InputError(f"x: expected a tensor or array of images; got a {_kind(x)}.")
    images = x.detach() if isinstance(x, Tensor) else _tensor(x)
    images = _channels_first(images)
    if images.is_floating_point():
        return _from_float(images.float())
    if images.dtype != torch.uint8:
        words = (".to(torch.uint8)",) if isinstance(x, Tensor) else ()
        hint = remedy(images.cpu().numpy(), *words) if images.numel() else "Convert it to uint8."
        raise InputError(f"x is {x.dtype}; expected uint8 in 0..255 or floats in [0, 1]. {hint}")
    return images


def _tensor(x: NDArray[Any]) -> Tensor:
    if x.dtype.kind not in "fiub":
        raise InputError(f"x is {x.dtype}; expected uint8 in 0..255 or floats in [0, 1]. Convert it to one of these.")
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
    return torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("="), order="C"))


def _channels_first(x: Tensor) -> Tensor:
    """Return [n, H, W], [n, H, W, C] or [n, C, H, W] as [n, C, H, W]."""
    shape = list(x.shape)
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim != 4:
        raise InputError(f"x has shape {shape}; expected [n, C, H, W], [n, H, W, C] or [n, H, W].")
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        why = "could be [n, C, H, W] and [n, H, W, C]" if first else "has neither 1 nor 3 channels"
        raise InputError(f"x has shape {shape}, which {why}; {_SET}.")
    return x if first else x.permute(0, 3, 1, 2).contiguous()


def _from_float(x: Tensor) -> Tensor:
    """Return floats in [0, 1] as they are, or as the uint8 that they are made of."""
    if x.numel() == 0:
        return x
    if not bool(torch.isfinite(x).all()):
        raise InputError("x holds infinite or NaN pixels; expected floats in [0, 1].")
    low, high = (float(value) for value in torch.aminmax(x))
    if low < 0.0 or high > 1.0:
        raise InputError(f"x has values from {low:.4g} to {high:.4g}; expected pixels in [0, 1]. {_rescale(low, high)}")
    levels = (255.0 * x).round().to(torch.uint8)
    return levels if torch.equal(to_float(levels), x) else x


def _rescale(low: float, high: float) -> str:
    """Return how to bring pixels into [0, 1]."""
    if low >= -1e-3 and high <= 1.001:
        return "They overstep by a rounding: give x.clamp(0, 1)."
    if low >= 0.0 and high <= 255.0:
        return "Divide by 255."
    given = "(x + 1) / 2" if low >= -1.0 and high <= 1.0 else "x * std + mean"
    return f"Give {given}, and put the scaling into the model: nuat.models.adapt(model, mean=..., std=...)."


def _labels(y: object, images: int) -> Tensor:
    """Return labels as int64 [n]."""
    try:
        labels = y.detach() if isinstance(y, Tensor) else torch.from_numpy(np.array(y))
    except (TypeError, ValueError):  # text, and rows of unequal length
        raise InputError("y: expected integer labels [n], classes from 0; got values that are no numbers.") from None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.ndim == 2:
        raise InputError(f"y has shape {list(labels.shape)}; expected labels [n]: of one-hot labels give y.argmax(1).")
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"y is {labels.dtype} {list(labels.shape)}; expected integers [n], classes from 0, such as torch.int64."
        )
    if len(labels) != images:
        raise InputError(f"y has {len(labels)} labels for {images} images; give one label per image.")
    if len(labels) and int(labels.min()) < 0:
        raise InputError(f"y has the label {int(labels.min())}; expected classes from 0.")
    return labels.to(torch.int64)
