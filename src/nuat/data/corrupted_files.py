"""Corrupted test images in files: CIFAR-10-C and CIFAR-100-C as arrays, ImageNet-C as folders of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuat.core import digest
from nuat.data.corruptions import CATEGORIES, CORRUPTIONS, SEVERITIES, CorruptedImages
from nuat.data.decoding import SUFFIXES
from nuat.data.images import Images
from nuat.data.memory import decode_evaluated
from nuat.data.npz import UNREADABLE
from nuat.data.samples import FileSamples, Names, few, reading
from nuat.errors import InputError, printable

_LAYOUTS = (
    "<corruption>.npy with labels.npy, as in CIFAR-10-C, or <corruption>/<severity>/<class>/ with images, as in "
    f"ImageNet-C; the corruptions are {', '.join(CORRUPTIONS)}"
)


def read_corrupted(path: Path, test: Images, classes: Sequence[str], positions: Tensor) -> CorruptedImages:
    """Return the corrupted versions of test images that a folder holds.

    Arrays ``<corruption>.npy`` are uint8 [5 N, H, W, C]: the whole test set of N images, in its order, at each severity
    in turn; ``labels.npy`` has the 5 N labels. In folders ``<corruption>/<severity>/<class>/``, or the same one level
    deeper in folders of the categories, the k-th file of a class by name is the k-th test image of this class. These
    images are cropped already: they are only resized to the size of the test images, if theirs is another.

    Args:
        path: the folder.
        test: whole test set.
        classes: names of its classes, in the order of the labels; only folders need them.
        positions: positions of the wanted images in the test set, int64 [n].

    Returns:
        The images, with those of the 15 corruptions that there are. The notes name other files.

    Raises:
        InputError: none of the corruptions is there, a severity or class is missing, or shape, type or labels are not
            those of the test set.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected {_LAYOUTS}.")
    with reading(path):
        there = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        if any(f"{name}.npy" in there for name in CORRUPTIONS):
            return _arrays(path, there, test, positions)
        found = {name: folder for name in CORRUPTIONS if (folder := _folder(path, name)) is not None}
        if not found:
            raise InputError(
                f"{path}: holds none of the 15 corruptions; found {few(there) or 'nothing'}. Expected {_LAYOUTS}."
            )
        return _folders(path, there, found, test, classes, positions)


def _arrays(path: Path, there: Sequence[str], test: Images, positions: Tensor) -> CorruptedImages:
    """Return the images of CIFAR-10-C; arrays are mapped, so only the pixels that are asked for are read."""
    n, (height, width) = len(test), test.image_size
    _check_labels(_array(path / "labels.npy"), path / "labels.npy", test.labels.cpu())
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name in CORRUPTIONS:
        file = path / f"{name}.npy"
        if file.name not in there:
            continue
        arrays[name] = _array(file)
        expected = (len(SEVERITIES) * n, height, width, test.channels)
        if arrays[name].dtype != np.uint8 or arrays[name].shape != expected:
            raise InputError(
                f"{file}: is {arrays[name].dtype} {list(arrays[name].shape)}; expected uint8 {list(expected)}, the "
                f"{n:,} test images at each of five severities."
            )
    chosen = positions.numpy()

    def take(name: str, severity: int, rows: Tensor) -> Tensor:
        pixels = arrays[name][(severity - 1) * n + chosen[rows.numpy()]]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    every = torch.arange(len(chosen))
    sha = digest.of_tensors(*(take(name, severity, every) for name in arrays for severity in SEVERITIES))
    others = [name for name in there if name.removesuffix(".npy") not in (*CORRUPTIONS, "labels")]
    return CorruptedImages(names=tuple(arrays), source=_source(path, sha), take=take, notes=_passed_over(path, others))


def _array(file: Path) -> NDArray[Any]:
    """Return an array on the disk.

    Raises:
        InputError: it is missing, damaged, or holds objects.
    """
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{file}: is missing; copy it from the data set, too.") from None
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: cannot be read as an array of NumPy ({reason}); copy it again.") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{file}: is an archive; expected an array of NumPy, .npy.")
    return found


def _check_labels(labels: NDArray[Any], file: Path, test: Tensor) -> None:
    """Refuse labels that are not, at each severity, those of the test set.

    Raises:
        InputError: with the number that differ.
    """
    n = len(test)
    if labels.dtype.kind not in "iu" or labels.shape != (len(SEVERITIES) * n,):
        raise InputError(
            f"{file}: is {labels.dtype} {list(labels.shape)}; expected whole numbers [{len(SEVERITIES) * n}], the "
            f"labels of the {n:,} test images at each of five severities. Are these the images of --data?"
        )
    wrong = int((labels.reshape(len(SEVERITIES), n).astype(np.int64) != test.numpy()).any(axis=0).sum())
    if wrong:
        raise InputError(
            f"{file}: the labels of {wrong:,} of {n:,} images are not those of the test set; expected the same images "
            "in the same order."
        )


def _folder(path: Path, name: str) -> Path | None:
    """Return the folder of a corruption, which may lie in one of its category. None: there is none."""
    places = [path / name, *(path / category / name for category, names in CATEGORIES.items() if name in names)]
    return next((place for place in places if place.is_dir()), None)


def _folders(
    path: Path,
    there: Sequence[str],
    found: dict[str, Path],
    test: Images,
    classes: Sequence[str],
    positions: Tensor,
) -> CorruptedImages:
    """Return the images of ImageNet-C; every file is found now, and decoded when it is asked for."""
    height, width = test.image_size
    if height != width:
        raise InputError(f"{path}: the test images are {height} x {width}; folders of images need square ones.")
    labels = test.labels.cpu().numpy()
    counts = np.bincount(labels, minlength=len(classes))
    if len(counts) > len(classes):
        raise InputError(f"{path}: the test set has {len(counts)} classes and {len(classes)} names; name all of them.")
    rank = np.empty(len(labels), dtype=np.int64)
    for label in range(len(classes)):
        rank[labels == label] = np.arange(counts[label])
    chosen = positions.numpy()
    samples: dict[tuple[str, int], FileSamples] = {}
    for name, folder in found.items():
        for severity in SEVERITIES:
            place = folder / str(severity)
            files = [_images(place / of, int(count)) for of, count in zip(classes, counts, strict=True)]
            named = [place / classes[labels[at]] / files[labels[at]][rank[at]] for at in chosen.tolist()]
            samples[name, severity] = FileSamples(
                root=path,
                names=Names.of(str(file.relative_to(path)) for file in named),
                sizes=np.array([file.stat().st_size for file in named], dtype=np.int64),
                times=np.zeros(len(named), dtype=np.int64),
                all_labels=labels[chosen],
                rows=np.arange(len(named)),
            )

    def take(name: str, severity: int, rows: Tensor) -> Tensor:
        part = samples[name, severity].take(rows.numpy())
        return decode_evaluated(part, test.channels, height, None).images

    stamps = b"".join(stamp for part in samples.values() for stamp in part.stamps())
    sha = digest.of_tensors(torch.frombuffer(bytearray(stamps), dtype=torch.uint8))
    others = [name for name in there if name not in (*CORRUPTIONS, *CATEGORIES)]
    return CorruptedImages(names=tuple(found), source=_source(path, sha), take=take, notes=_passed_over(path, others))


def _images(folder: Path, count: int) -> list[str]:
    """Return the names of the ``count`` images of a class, sorted. Empty: the test set has none of it.

    Raises:
        InputError: there are more, or fewer.
    """
    if count == 0:
        return []
    there = [] if not folder.is_dir() else [entry.name for entry in folder.iterdir()]
    names = sorted(name for name in there if name.lower().endswith(SUFFIXES) and not name.startswith("."))
    if len(names) != count:
        raise InputError(
            f"{folder}: holds {len(names)} images; expected {count}, as the test set has of this class. Give the test "
            "set that was corrupted, or copy the folder again."
        )
    return names


def _source(path: Path, sha: str) -> str:
    return printable(f"files of {path.resolve().name}, sha256 {sha[:12]}")


def _passed_over(path: Path, others: Sequence[str]) -> tuple[str, ...]:
    """Return a note that counts and names files that are none of the 15 corruptions, or nothing."""
    if not others:
        return ()
    told = f"{len(others)} other file{'' if len(others) == 1 else 's'} passed over, none of the 15 corruptions"
    return (printable(f"{path}: {told}: {few(others)}"),)
