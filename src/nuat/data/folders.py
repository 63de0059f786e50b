"""The layout of image folders: train/<class>/*.png and test/<class>/*.png."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from nuat.data.samples import FileSamples, Names, Parts, reading
from nuat.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_KIND = "nuat-folder-1"  # part of every cache's key: raise it when decoding changes

_File = tuple[tuple[str, ...], int, int]
"""The parts of a path relative to a class folder, the size [bytes], the time of the last change [ns]."""


def scan(path: Path, subset: str | None = None) -> Parts:
    """Find the images of a folder, and decode none.

    Layout: ``train/<class>/`` and ``test/<class>/`` with .png, .jpg, .jpeg, .bmp or .webp files, in subfolders, too.
    With ``val/`` in place of ``test/`` (torchvision's ImageNet) that is the test set; with both, ``val/`` is the
    source's validation part. The classes are sorted by name and the same in every part. Hidden files and files of other
    types are skipped. Links are followed; what one should lead to but is not there cannot be read, or is refused.

    Args:
        path: the folder.
        subset: "imagenet100" for these classes alone; none: all.

    Raises:
        InputError: the layout is another one, a class of the subset is missing, or a link leads nowhere or in a circle.
        TransientError: a folder cannot be read.
    """
    with reading(path):
        for name in ("train", "val", "test"):
            if (path / name).is_symlink() and not (path / name).exists():
                raise _nowhere(str(path / name))
        evaluation = [name for name in ("val", "test") if (path / name).is_dir()]
        if not (path / "train").is_dir() or not evaluation:
            raise InputError(
                f"{path} is not an image folder: expected train/<class>/ and test/<class>/ (or val/<class>/) with "
                f"{', '.join(SUFFIXES)} files in them; found {_listing(path)}."
            )
        kept = None if subset is None else imagenet100()
        classes = _class_names(path / "train", kept)
        parts = {name: _scan_part(path, name, classes, kept) for name in ("train", *evaluation)}
        return Parts(
            train=parts["train"],
            test=parts[evaluation[-1]],
            validation=parts["val"] if len(evaluation) == 2 else None,
            classes=classes,
            description=f"image folder {path}" + ("" if subset is None else f" ({subset})"),
            kind=_KIND,
        )


def imagenet100() -> frozenset[str]:
    """Return the wordnet ids of ImageNet-100."""
    text = (resources.files("nuat.data") / "imagenet100.txt").read_text(encoding="ascii")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def _class_names(part: Path, kept: frozenset[str] | None) -> tuple[str, ...]:
    found = []
    for entry in sorted(part.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found.append(entry.name)
        elif not entry.exists():
            raise _nowhere(str(entry))
        elif entry.suffix.lower() in SUFFIXES:
            raise InputError(f"{entry} lies in no class folder; move it to {part}/<class>/.")
    if kept is None:
        return tuple(found)
    missing = sorted(kept.difference(found))
    if missing:
        raise InputError(
            f"{part} has no class folder {missing[0]}"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            + f" of the {len(kept)} of data.subset=imagenet100; add the images, or leave the subset out."
        )
    return tuple(name for name in found if name in kept)


def _image_files(folder: Path) -> list[_File]:
    """Return the images in a folder and its subfolders, sorted by the parts of their paths."""
    return sorted(_walk(str(folder), (), tuple(parent.stat() for parent in folder.resolve().parents)))


def _walk(folder: str, above: tuple[str, ...], inside: tuple[os.stat_result, ...]) -> Iterator[_File]:
    """Yield the images below a folder, links followed; ``above`` are its names, ``inside`` the folders it lies in."""
    here = Path(folder).stat()
    if any(os.path.samestat(here, other) for other in inside):
        raise InputError(f"{folder} leads back to a folder that it lies in; remove the link.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            image = entry.name.lower().endswith(SUFFIXES)
            if entry.is_dir():
                yield from _walk(entry.path, (*above, entry.name), (*inside, here))
            elif image and entry.is_file():
                status = entry.stat()
                yield (*above, entry.name), status.st_size, status.st_mtime_ns
            elif entry.is_symlink() and not Path(entry.path).exists():
                if not image:
                    raise _nowhere(entry.path)
                # counted, so that it is missed by name when it is read
                status = entry.stat(follow_symlinks=False)
                yield (*above, entry.name), status.st_size, status.st_mtime_ns


def _nowhere(link: str) -> InputError:
    return InputError(
        f"{link} is a link to {Path(link).readlink()}, which is not there; put it back or remove the link."
    )


def _scan_part(root: Path, name: str, classes: tuple[str, ...], kept: frozenset[str] | None) -> FileSamples:
    part = root / name
    found = _class_names(part, kept)
    if not found:
        raise InputError(f"{part} has no class folders; put the images of each class into {part}/<class>/.")
    if found != classes:
        odd = min(set(found) ^ set(classes))
        where = f"{part} has no class folder {odd}, unlike train" if odd in classes else f"{part / odd} is not in train"
        raise InputError(f"{where}; every part needs the same class folders.")
    files: list[str] = []
    labels: list[int] = []
    numbers: list[tuple[int, int]] = []
    for label, of in enumerate(classes):
        of_class = _image_files(part / of)
        if not of_class:
            raise InputError(f"{part / of} holds no {', '.join(SUFFIXES)} file; add images or remove the class.")
        files += ["/".join((name, of, *path)) for path, _, _ in of_class]
        labels += [label] * len(of_class)
        numbers += [(size, time) for _, size, time in of_class]
    sizes, times = np.array(numbers, dtype=np.int64).T.copy()
    return FileSamples(
        root=root,
        names=Names.of(files),
        sizes=sizes,
        times=times,
        all_labels=np.array(labels, dtype=np.int64),
        rows=np.arange(len(files)),
    )
