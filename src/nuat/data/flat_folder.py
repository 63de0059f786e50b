"""Layout of image folders without parts: <class>/*.png. The test images are chosen by their names."""

from pathlib import Path

import numpy as np

from nuat.data.decoding import SUFFIXES
from nuat.data.folders import class_folders, image_files
from nuat.data.held_out import hold_out
from nuat.data.samples import PART_OF, PARTS, FileSamples, Names, Parts, PassedOver, few, reading
from nuat.errors import InputError

_KIND = "nuat-flat-folder-1"  # part of every cache key: raise it when decoding changes


def is_flat(path: Path) -> bool:
    """Return whether a path is a folder with subfolders, none of which is called like a part."""
    with reading(path):
        names = [entry.name for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
        return any(not name.startswith(".") for name in names) and not set(PARTS) & set(names)


def scan(path: Path, *, split_seed: int = 0) -> Parts:
    """Find the images of a folder of classes without decoding them.

    Layout: ``<class>/`` with image files, in subfolders, too. About a fifth of the images become the test part, see
    ``held_out``. Classes are sorted by name. Other files are passed over, and the notes count and name them.

    Args:
        path: the folder.
        split_seed: see ``DataConfig``.

    Raises:
        InputError: a class has no images, a folder is called like a part or holds classes itself, or a link is broken
            or circular.
        TransientError: a folder cannot be read.
    """
    passed = PassedOver()
    with reading(path):
        classes = class_folders(path, passed)
        parts = [name for name in classes if name.lower() in PART_OF]
        if parts:
            raise InputError(
                f"{path / parts[0]} looks like a part of the data set, not a class; call the parts train, val and "
                "test, or rename the class."
            )
        found = {name: image_files(path / name, name, passed) for name in classes}
    for name, of_class in found.items():
        if not of_class:
            raise InputError(f"{path / name} holds no image ({', '.join(SUFFIXES)}); add images or remove the class.")
    _check_depth(path, {name: [parts for parts, _, _ in of_class] for name, of_class in found.items()})
    names = ["/".join((name, *parts)) for name, of_class in found.items() for parts, _, _ in of_class]
    numbers = np.array([(size, time) for of_class in found.values() for _, size, time in of_class], dtype=np.int64)
    sizes, times = numbers.T.copy()
    samples = FileSamples(
        root=path,
        names=Names.of(names),
        sizes=sizes,
        times=times,
        all_labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in found.values()]),
        rows=np.arange(len(names)),
    )
    return hold_out(
        samples,
        names,
        classes=classes,
        description=f"folder of classes {path}",
        kind=_KIND,
        seed=split_seed,
        notes=passed.note("files"),
    )


def _check_depth(path: Path, found: dict[str, list[tuple[str, ...]]]) -> None:
    """Refuse folders that hold the same subfolders and no image next to them: those are the classes, one level deeper.

    Args:
        path: the folder.
        found: class to its images, each as the parts of its path in the class folder.
    """
    if any(len(parts) == 1 for images in found.values() for parts in images):
        return
    inner = {name: {parts[0] for parts in images} for name, images in found.items()}
    shared = [name for name in inner if any(inner[name] & inner[other] for other in inner if other != name)]
    if len(found) == 1 or shared:
        name = (shared or list(found))[0]
        raise InputError(
            f"{path / name} holds no image, but folders ({few(sorted(inner[name]))}); give the folder whose subfolders "
            f"are the classes, such as --data.path {path / name}."
        )
