"""MNIST and CIFAR as torchvision reads them, downloaded once into the cache."""

import contextlib
import http.client
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nuat.data.images import ImageSet, UnsplitData
from nuat.errors import InputError

_FOLDERS = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_READERS = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# torchvision's errors for files that are absent, cut short or of another kind
_UNREADABLE = (RuntimeError, ValueError, OSError, AssertionError, KeyError)


def reader(name: str) -> Callable[[Path, bool], UnsplitData]:
    """Return ``read(cache, download)`` for one of torchvision's data sets."""
    return partial(_read, name)


def _read(name: str, cache: Path, download: bool) -> UnsplitData:
    """Read a data set from the cache; download it first if it is not there whole.

    Raises:
        InputError: it is not in the cache, and ``download`` is false or the download fails.
    """
    # imported late: torchvision takes a second that other data sets need not pay
    from torchvision import datasets

    kind = getattr(datasets, _READERS[name])
    folder = cache / _FOLDERS[name]
    try:
        train, test = _parts(kind, cache)
    except _UNREADABLE as absent:
        if not download:
            raise InputError(
                f"{name} was not found whole in {folder}: drop --data.download false to download it, or give "
                "--data.path or --data.cache."
            ) from absent
        try:
            _download(kind, name, cache)
            train, test = _parts(kind, cache)
        except (*_UNREADABLE, http.client.HTTPException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{name} could not be downloaded to {folder} ({reason}); try again, give --data.path, or put the "
                "unpacked files there yourself."
            ) from error
    classes = tuple(str(digit) for digit in range(10)) if name == "mnist" else tuple(train.classes)
    return UnsplitData(
        train=_image_set(train), test=_image_set(test), classes=classes, description=f"{name} (torchvision)"
    )


def _parts(kind: Any, root: Path) -> tuple[Any, Any]:
    return kind(root, train=True), kind(root, train=False)


def _download(kind: Any, name: str, cache: Path) -> None:
    """Download into a temporary folder and move the checked files: a failure leaves nothing in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / _FOLDERS[name]
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as temporary,
        # older versions of torchvision print; standard output is for results
        contextlib.redirect_stdout(sys.stderr),
    ):
        kind(temporary, train=True, download=True)
        target.mkdir(parents=True, exist_ok=True)
        for file in (Path(temporary) / _FOLDERS[name]).iterdir():
            if file.is_file() and file.suffix != ".gz":
                file.replace(target / file.name)


def _image_set(part: Any) -> ImageSet:
    """Convert [N, H, W] (MNIST, a tensor) or [N, H, W, C] (CIFAR, an array) to uint8 [N, C, H, W]."""
    pixels = torch.as_tensor(part.data)
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return ImageSet(pixels.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64))
