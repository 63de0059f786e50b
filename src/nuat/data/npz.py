"""Images from an .npz file in the convention of keras: x_train, y_train, x_test, y_test."""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuat.data.images import FEW_LEVELS, ImageSet, UnsplitData, check_levels, named_classes, numbered_classes
from nuat.errors import InputError, printable

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_CHUNK = 4096  # images converted at once, to bound the memory for float files
# numpy's errors for a file that is no .npz, is cut short, is damaged, or holds pickled objects
UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, NotImplementedError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, MemoryError, RecursionError, OverflowError, TypeError),
)


def read(path: Path, *, needs_train: bool = True) -> UnsplitData:
    """Read an .npz file.

    Arrays: ``x_train`` and ``x_test``, uint8 or floating multiples of 1/255 in [0, 1], as [N, H, W], [N, H, W, C] or
    [N, C, H, W] with C 1 or 3 (read as [N, H, W, C] where both fit); ``y_train`` and ``y_test``, integers from 0, as
    [N] or [N, 1]; and, optionally, ``classes``, the names of the classes. Without it the classes are 0..max(y_train),
    and each must have a training image. Nothing pickled is read.

    Args:
        path: the file.
        needs_train: whether x_train and y_train must be there. If they are not, the training part is empty, and the
            classes are those of y_test.

    Raises:
        InputError: the file is missing, unreadable or not of this form.
    """
    arrays = _arrays(path, needs_train)
    description = printable(f"file {path}")
    test_x = _images(path, "x_test", arrays["x_test"])
    test_y = _labels(path, "y_test", arrays["y_test"], len(test_x))
    if "x_train" not in arrays:
        classes = _classes(path, arrays.get("classes"), "y_test", test_y)
        _check_range(path, "y_test", test_y, len(classes))
        test = ImageSet(test_x, test_y)
        return UnsplitData(train=test.select(torch.arange(0)), test=test, classes=classes, description=description)
    train_x = _images(path, "x_train", arrays["x_train"])
    if train_x.shape[1:] != test_x.shape[1:]:
        raise InputError(
            f"{path}: x_train has images of C, H, W = {tuple(train_x.shape[1:])} but x_test of "
            f"{tuple(test_x.shape[1:])}; make them the same size."
        )
    train_y = _labels(path, "y_train", arrays["y_train"], len(train_x))
    classes = _classes(path, arrays.get("classes"), "y_train", train_y)
    _check_range(path, "y_train", train_y, len(classes))
    _check_range(path, "y_test", test_y, len(classes))
    return UnsplitData(
        train=ImageSet(train_x, train_y),
        test=ImageSet(test_x, test_y),
        classes=classes,
        description=description,
    )


def _arrays(path: Path, needs_train: bool) -> dict[str, NDArray[Any]]:
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected an .npz file.")
    if not path.exists():
        raise InputError(f"{path} does not exist: expected an .npz file with {', '.join(REQUIRED)}.")
    try:
        file = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise InputError(
            f"{path} is not a readable .npz file ({_one_line(error)}); write it with numpy.savez, or copy it again if "
            "it was cut short."
        ) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"{path} holds a single array: expected an .npz file with {', '.join(REQUIRED)}.")
    arrays: dict[str, NDArray[Any]] = {}
    with file:
        required = REQUIRED if needs_train or {"x_train", "y_train"} & set(file.files) else REQUIRED[2:]
        missing = [name for name in required if name not in file.files]
        if missing:
            found = ", ".join(file.files) or "nothing"
            raise InputError(
                f"{path} has no array {', '.join(missing)} (found: {found}); expected {', '.join(required)}."
            )
        for name in (*required, *(name for name in file.files if name == "classes")):
            try:
                arrays[name] = _array(file[name])
            except UNREADABLE as error:
                raise InputError(
                    f"{path}: array {name} cannot be read ({_one_line(error)}); write plain number arrays (text for "
                    "classes) with numpy.savez, or copy the file again if it is damaged."
                ) from error
    return arrays


def _array(member: object) -> NDArray[Any]:
    if not isinstance(member, np.ndarray):
        raise ValueError("it is no array of numpy")  # a zip member of another kind comes as its bytes
    return member


def _images(path: Path, name: str, x: NDArray[Any]) -> Tensor:
    """Check and convert one array of images to uint8 [N, C, H, W]."""
    if x.size == 0:
        raise InputError(f"{path}: {name} is empty (shape {list(x.shape)}); give at least one image.")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(f"{path}: {name} has shape {list(x.shape)}; expected [N, H, W] or [N, H, W, C] with C 1 or 3.")
    if np.issubdtype(x.dtype, np.floating):
        x = np.concatenate([_from_float(path, name, x, i) for i in range(0, len(x), _CHUNK)])
    elif x.dtype != np.uint8:
        raise InputError(f"{path}: {name} is {x.dtype}; expected uint8 in 0..255. {remedy(x)}")
    else:
        check_levels(int(x.max()), f"{path}: {name}")
    return torch.from_numpy(np.ascontiguousarray(x))


def remedy(x: NDArray[Any], to_uint8: str = ".astype('uint8')") -> str:
    """Return how to convert images of another type than uint8 without changing them, by the method ``to_uint8``."""
    if x.dtype.kind not in "biu":
        return "Convert it to uint8."
    low, high = int(x.min()), int(x.max())
    if x.dtype.kind == "b" or (low >= 0 and high <= 1):
        return f"Its values are 0 and 1: convert with (255 * x{to_uint8})."
    if low >= 0 and FEW_LEVELS < high <= 255:
        return f"Its values lie in {low}..{high}: convert with {to_uint8}."
    if low >= 0:
        white, harm = 2 ** high.bit_length() - 1, "wrap them"
        if high <= FEW_LEVELS:
            white, harm = high, "leave them nearly black"
        return (
            f"Its values lie in {low}..{high}, and {to_uint8} would {harm}: scale them first, such as "
            f"(x * (255 / {white})).round(){to_uint8} if {white} is white."
        )
    return f"Its values lie in {low}..{high}: undo any normalisation, scale to 0..255, then convert."


def _from_float(path: Path, name: str, x: NDArray[Any], start: int) -> NDArray[np.uint8]:
    chunk = x[start : start + _CHUNK].astype(np.float64)
    outside = ~((chunk >= 0.0) & (chunk <= 1.0))  # true for NaN, too
    if outside.any():
        place = np.argwhere(outside)[0]
        raise InputError(
            f"{path}: {name} holds {chunk[tuple(place)]:g} in image {start + place[0]}; expected floats in [0, 1]. "
            "Undo any normalisation; pixels in 0..255 convert with .round().astype('uint8')."
        )
    scaled = chunk * 255.0
    rounded = np.rint(scaled)
    between = np.abs(scaled - rounded) > 1e-3
    if between.any():
        place = np.argwhere(between)[0]
        raise InputError(
            f"{path}: {name} holds {chunk[tuple(place)]:g} in image {start + place[0]}, which is no multiple of 1/255 "
            "and would be rounded; convert to uint8 yourself: (255 * x).round().astype('uint8')."
        )
    return rounded.astype(np.uint8)


def _labels(path: Path, name: str, y: NDArray[Any], n: int) -> Tensor:
    """Check and convert one array of labels to int64 [N]."""
    if not np.issubdtype(y.dtype, np.integer) or not (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)):
        raise InputError(
            f"{path}: {name} is {y.dtype} {list(y.shape)}; expected integer class numbers of shape [N] "
            "(one-hot labels: take .argmax(1))."
        )
    if len(y) != n:
        raise InputError(f"{path}: {name} has {len(y)} labels for {n} images; give one label an image.")
    return torch.from_numpy(y.reshape(-1).astype(np.int64))


def _classes(path: Path, names: NDArray[Any] | None, which: str, labels: Tensor) -> tuple[str, ...]:
    """Return the names of the classes; without ``names``, the numbers 0..max of the labels (called ``which``)."""
    if names is not None:
        if names.ndim != 1 or not len(names) or names.dtype.kind not in "US":
            raise InputError(
                f"{path}: classes is {names.dtype} {list(names.shape)}; expected names (text) of shape [C]."
            )
        text = names if names.dtype.kind == "U" else np.char.decode(names, "utf-8", "replace")
        return named_classes(map(str, text), f"{path}: classes")
    _check_range(path, which, labels, None)
    return numbered_classes(labels.numpy(), f"{path}: {which} has", "an array classes")


def _check_range(path: Path, name: str, y: Tensor, classes: int | None) -> None:
    bad = y < 0 if classes is None else (y < 0) | (y >= classes)
    if bad.any():
        index = int(bad.nonzero()[0])
        expected = "0 or more" if classes is None else f"0..{classes - 1}"
        raise InputError(
            f"{path}: {name} holds the label {int(y[index])} at index {index}; expected {expected} (the classes of the "
            "training part). Correct the label or renumber the classes."
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
