"""Sets of labelled images, the form in which the whole package trains and evaluates."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuat.core import digest
from nuat.errors import InputError, printable

_NO_LABELS = (torch.bool, torch.complex64, torch.complex128)


@runtime_checkable
class Images(Protocol):
    """Labelled images of one shape.

    ``ImageSet`` holds them on a device; ``StreamedSet`` decodes them when they are asked for.

    Example:
        >>> import torch
        >>> from nuat.data import ImageSet, Images
        >>> images: Images = ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
        >>> images.select(torch.tensor([1])).labels
        tensor([1])
    """

    @property
    def labels(self) -> Tensor:
        """int64 [N], classes from 0."""

    @property
    def channels(self) -> int:
        """Channels C of every image."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [pixels] of every image."""

    @property
    def device(self) -> torch.device:
        """Device on which the images are used."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """Return the set for use on ``device``."""

    def subset(self, indices: Tensor) -> Self:
        """Return the images at ``indices`` (int64 [n]), in that order, as a set of the same kind."""

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the images at ``indices`` (int64 [n]), in that order, as evaluations see them, on the set's device."""

    def fingerprint(self) -> str:
        """Return a digest of the images and labels, in order."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images on one device.

    Attributes:
        images: [N, C, H, W], uint8 in 0..255, or float32 in [0, 1]. Training takes uint8 alone.
        labels: [N] of any integer type, kept as int64; classes from 0.

    Raises:
        InputError: a shape or type is wrong, or the lengths or devices differ.

    Example:
        >>> import torch
        >>> from nuat.data import ImageSet
        >>> images = ImageSet(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([3, 7]))
        >>> len(images), images.channels, images.image_size
        (2, 1, (28, 28))
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype not in (torch.uint8, torch.float32) or self.images.ndim != 4:
            raise InputError(
                f"images are {self.images.dtype} {list(self.images.shape)}: expected torch.uint8 [N, C, H, W] in "
                "0..255, or torch.float32 in [0, 1]."
            )
        if self.images.dtype == torch.float32 and not bool(((self.images >= 0.0) & (self.images <= 1.0)).all()):
            raise InputError(
                "images are torch.float32 with values outside [0, 1]: divide by 255 or undo the normalisation, which "
                "belongs into the model (nuat.models.adapt)."
            )
        if self.labels.dtype in _NO_LABELS or self.labels.is_floating_point() or self.labels.ndim != 1:
            raise InputError(
                f"labels are {self.labels.dtype} {list(self.labels.shape)}: expected integers such as torch.int64 [N]; "
                "convert with .long().reshape(-1)."
            )
        object.__setattr__(self, "labels", self.labels.long())  # frozen for users
        if len(self.images) != len(self.labels):
            raise InputError(f"{len(self.images)} images but {len(self.labels)} labels: give one label per image.")
        if self.images.device != self.labels.device:
            raise InputError(
                f"images are on {self.images.device} but labels on {self.labels.device}: move both to one device."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set on ``device``."""
        return ImageSet(self.images.to(device), self.labels.to(device))

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the images at ``indices`` (int64 [n]), in that order, on the set's device."""
        indices = indices.to(self.images.device)
        return ImageSet(self.images[indices], self.labels[indices])

    def subset(self, indices: Tensor) -> "ImageSet":
        """Return ``select(indices)``."""
        return self.select(indices)

    @property
    def channels(self) -> int:
        """Channels C of every image."""
        return self.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [pixels] of every image."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.images.device

    def fingerprint(self) -> str:
        """Return a digest of the images and labels, in order."""
        return digest.of_tensors(self.images, self.labels)


@dataclass(frozen=True, eq=False)
class UnsplitData:
    """A data set as its reader returns it, before the split, on the CPU."""

    train: Images
    """Whole training part."""
    test: Images
    """Evaluation part."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the labels."""
    description: str
    """Source of the images, for messages."""
    validation: Images | None = None
    """The set's own validation part. None: it has none."""
    held_out: Callable[[Tensor], ImageSet] | None = None
    """Return training images, by their positions int64 [n], as evaluations see them. None: ``train.select`` does."""
    skipped: int = 0
    """Files left out because they cannot be decoded."""
    skipped_names: tuple[str, ...] = ()
    """Their names, or those of the first."""
    notes: tuple[str, ...] = ()
    """Lines on what was passed over or converted."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three image sets of a run.

    Example:
        >>> from nuat.data import Dataset
        >>> from nuat.config import DataConfig
        >>> from nuat.data import load
        >>> digits: Dataset = load(DataConfig(name="mnist-sample", validation=200))
        >>> len(digits.train), len(digits.validation), len(digits.test)
        (3800, 200, 1000)
    """

    train: Images
    """Images to train on."""
    validation: ImageSet
    """Images that the best epoch is chosen on; may be empty."""
    test: Images
    """Images of the final evaluation; no choice depends on them."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the labels."""
    source: str
    """Source of the images, for messages."""
    validation_indices: Tensor
    """int64 [len(validation)], sorted, on the CPU: positions of the validation images in the set's own validation part,
    or, if it has none, in its training part."""
    skipped: int = 0
    """Files left out because they cannot be decoded."""
    skipped_names: tuple[str, ...] = ()
    """Their names, or those of the first."""
    notes: tuple[str, ...] = ()
    """Lines on what was passed over or converted."""

    @property
    def channels(self) -> int:
        """Channels C of every image."""
        return self.train.channels

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [pixels] of every image."""
        return self.train.image_size

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the dataset with its three sets on ``device``."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [0, 1], bit for bit as torchvision's ``ToTensor`` does.

    Images that are float32 already are returned as they are.

    Example:
        >>> import torch
        >>> from nuat.data import to_float
        >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if images.dtype == torch.float32:
        return images
    # The divisor is a tensor: CUDA divides by a Python number by multiplying with its rounded reciprocal, and some
    # pixels would differ from the CPU's in the last bit.
    return images.float() / torch.full((), 255.0, dtype=torch.float32, device=images.device)


FEW_LEVELS = 16
"""Largest pixel, of images that were not scaled to 0..255 and are nearly black there."""


def check_scale(largest: int, what: str) -> None:
    """Refuse images that were in [0, 1] and lost all greys but 0 and 1 when they were converted to uint8.

    Args:
        largest: largest pixel of all of them.
        what: their name, for the message.

    Raises:
        InputError: the largest is 1.
    """
    if largest == 1:
        raise InputError(
            f"{what}: the values are 0 and 1 only, two nearly black greys of 0..255. Scale pixels in [0, 1] before "
            "they are converted to uint8: (255 * x).round()."
        )


def check_levels(largest: int, what: str) -> None:
    """Refuse an array of uint8 images that counts a few levels, such as digits of 0 to 16; arguments as above.

    Raises:
        InputError: the largest is 1 to ``FEW_LEVELS``.
    """
    check_scale(largest, what)
    if 1 < largest <= FEW_LEVELS:
        raise InputError(
            f"{what}: no value is above {largest}, so all are nearly black in 0..255. Scale them to this range: "
            f"(255 / {largest} * x).round()."
        )


def named_classes(names: Iterable[str], holder: str) -> tuple[str, ...]:
    """Return names of classes as a terminal shows them; refuse one that ``holder`` has twice."""
    classes = tuple(map(printable, names))
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise InputError(f"{holder} holds {twice!r} twice; give every class its own name.")
    return classes


def numbered_classes(labels: NDArray[np.integer[Any]], holder: str, place: str) -> tuple[str, ...]:
    """Return the classes of labels from 0 as text; refuse a gap among them.

    Args:
        labels: [N].
        holder: what has the labels, with its verb, for the message.
        place: where the classes may be named instead.
    """
    present = np.unique(labels)
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise InputError(
            f"{holder} labels up to {present[-1]} but no image of class {gaps[0]}; number the classes 0, 1, 2, ... "
            f"without a gap, or name all of them in {place}."
        )
    return tuple(map(str, range(len(present))))


def batches(images: ImageSet, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(x, y)`` in order, for evaluation: x float32 [B, C, H, W] in [0, 1], y int64 [B].

    B is ``batch_size`` (>= 1), except in the last batch, which holds the rest.

    Example:
        >>> import torch
        >>> from nuat.data import ImageSet, batches
        >>> images = ImageSet(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5))
        >>> [len(y) for x, y in batches(images, 2)]
        [2, 2, 1]
    """
    for start in range(0, len(images), batch_size):
        stop = start + batch_size
        yield to_float(images.images[start:stop]), images.labels[start:stop]
