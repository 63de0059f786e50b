"""Images from folders: train/<class>/*.png and test/<class>/*.png, decoded once."""

import hashlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from nuat.data.decoding import decode
from nuat.data.images import ImageSet, Source
from nuat.data.npz import UNREADABLE
from nuat.errors import InputError
from nuat.files import atomic_write

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_CHUNK = 256  # images decoded ahead, which bounds memory and the wait after an error
_FORMAT = "nuat-folder-1"  # part of the cache's key: raise it when decoding changes


@dataclass(frozen=True)
class _Part:
    """One of train, val and test: its files and their classes, in the order of the classes and the names."""

    files: list[Path]
    labels: list[int]


def read(path: Path, image_size: int | None, cache: Path) -> Source:
    """Read an image folder.

    Layout: ``train/<class>/`` and ``test/<class>/`` with .png, .jpg, .jpeg, .bmp or .webp files, in subfolders, too.
    With ``val/`` in place of ``test/`` that is the test set; with both, ``val/`` is the source's validation part.
    The classes are sorted by name and the same in every part. Hidden files and files of other types are skipped.

    The images have one channel if all of them are greyscale, otherwise three. Decoded pixels are kept in
    ``cache/folders`` under a name made from the files' relative paths, sizes, times and ``image_size``; delete that
    folder to free the space.

    Args:
        path: the folder.
        image_size: side [pixels] of the square images to resize and crop to; None: all images are of one size.
        cache: folder of the decoded images.

    Raises:
        InputError: the layout is another one, a file is damaged, or the sizes differ and no image_size is given.
    """
    evaluation = [name for name in ("val", "test") if (path / name).is_dir()]
    if not (path / "train").is_dir() or not evaluation:
        raise InputError(
            f"{path} is not an image folder: expected train/<class>/ and test/<class>/ (or val/<class>/) with "
            f"{', '.join(SUFFIXES)} files in them; found {_listing(path)}."
        )
    classes = _class_names(path / "train")
    parts = {name: _scan(path / name, classes) for name in ("train", *evaluation)}
    files = [file for part in parts.values() for file in part.files]
    images = _decoded(path, files, image_size, cache)
    sets: dict[str, ImageSet] = {}
    start = 0
    for name, part in parts.items():
        stop = start + len(part.files)
        sets[name] = ImageSet(torch.from_numpy(images[start:stop]), torch.tensor(part.labels))
        start = stop
    return Source(
        train=sets["train"],
        test=sets[evaluation[-1]],
        validation=sets["val"] if len(evaluation) == 2 else None,
        classes=classes,
        description=f"image folder {path}",
    )


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def _class_names(part: Path) -> tuple[str, ...]:
    return tuple(sorted(e.name for e in part.iterdir() if e.is_dir() and not e.name.startswith(".")))


def _image_files(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(folder).parts))


def _scan(part: Path, classes: tuple[str, ...]) -> _Part:
    stray = sorted(file for file in part.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if stray:
        raise InputError(f"{stray[0]} lies in no class folder; move it to {part}/<class>/.")
    found = _class_names(part)
    if not found:
        raise InputError(f"{part} has no class folders; put the images of each class into {part}/<class>/.")
    if found != classes:
        name = min(set(found) ^ set(classes))
        where = (
            f"{part} has no class folder {name}, unlike train" if name in classes else f"{part / name} is not in train"
        )
        raise InputError(f"{where}; every part needs the same class folders.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = _image_files(part / name)
        if not of_class:
            raise InputError(f"{part / name} holds no {', '.join(SUFFIXES)} file; add images or remove the class.")
        files += of_class
        labels += [label] * len(of_class)
    return _Part(files, labels)


def _decoded(root: Path, files: list[Path], image_size: int | None, cache: Path) -> NDArray[np.uint8]:
    """Return the pixels of the files, uint8 [N, C, H, W], from the cache if they are there."""
    key = hashlib.sha256(f"{_FORMAT} {image_size} {root.resolve()}".encode())
    for file in files:
        status = file.stat()
        key.update(f"\0{file.relative_to(root).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    path = cache / "folders" / f"{key.hexdigest()[:32]}.npz"
    cached = _from_cache(path, len(files))
    if cached is not None:
        return cached
    images = _decode_all(files, image_size)
    try:
        with atomic_write(path) as f:
            np.savez(f, images=images)
    except OSError as error:
        # the pixels are there, so the run can go on; only the next one has to decode again
        warnings.warn(f"the decoded images could not be kept in {path.parent} ({error})", RuntimeWarning, stacklevel=2)
    return images


def _from_cache(path: Path, n: int) -> NDArray[np.uint8] | None:
    """Return the cached pixels, or None where there is no whole file of them (it is then made again)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            images: NDArray[np.uint8] = file["images"]
    except (*UNREADABLE, AttributeError, TypeError):  # the last two: a file that is no .npz loads as a bare array
        return None
    return images if images.dtype == np.uint8 and images.ndim == 4 and len(images) == n else None


def _decode_all(files: list[Path], image_size: int | None) -> NDArray[np.uint8]:
    console = Console(stderr=True)
    images: NDArray[np.uint8] = np.empty((0, 3, 0, 0), dtype=np.uint8)
    greyscale = True
    with (
        Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress,
        ThreadPoolExecutor() as pool,
    ):
        task = progress.add_task("Decoding images", total=len(files))
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            for i, pixels in enumerate(pool.map(lambda file: decode(file, image_size), chunk), start):
                if i == 0:
                    images = np.empty((len(files), 3, *pixels.shape[1:]), dtype=np.uint8)
                if pixels.shape[1:] != images.shape[2:]:
                    raise InputError(
                        f"{files[0]} is {images.shape[3]}x{images.shape[2]} pixels but {files[i]} is "
                        f"{pixels.shape[2]}x{pixels.shape[1]}; give --data.image-size to resize and crop all of them."
                    )
                images[i] = pixels  # one channel spreads to all three
                greyscale = greyscale and len(pixels) == 1
            progress.advance(task, len(chunk))
    return np.ascontiguousarray(images[:, :1]) if greyscale else images
