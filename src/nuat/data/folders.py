"""Layout of image folders: train/<class>/*.png and test/<class>/*.png."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from nuat.data.decoding import SUFFIXES
from nuat.data.samples import PARTS, FileSamples, Names, Parts, PassedOver, few, reading, val_for_test
from nuat.errors import InputError

_KIND = "nuat-folder-2"  # part of every cache key: raise it when decoding changes

_File = tuple[tuple[str, ...], int, int]
"""Parts of the path relative to a class folder, size [bytes], time of the last change [ns]."""


def has_classes_in_parts(path: Path) -> bool:
    """Return whether a path is a folder with a part that holds folders, or with a link that should lead to a part."""
    with reading(path):
        parts = [path / name for name in PARTS]
        if any(part.is_symlink() and not part.exists() for part in parts):
            return True
        inner = [entry for part in parts if part.is_dir() for entry in part.iterdir()]
        return any(not entry.name.startswith(".") and entry.is_dir() for entry in inner)


def scan(path: Path, subset: str | None = None, *, needs_train: bool = True) -> Parts:
    """Find the images of a folder without decoding them.

    Layout: ``train/<class>/`` and ``test/<class>/`` with image files (``SUFFIXES``), in subfolders, too. ``val/``
    instead of ``test/`` (torchvision's ImageNet) is the test set; with both, ``val/`` is the validation part. Classes
    are sorted by name. A class may lack images in ``val/`` and ``test/``. Other files are passed over, and the notes
    count and name them; hidden files are not mentioned. Links are followed.

    Args:
        path: the folder.
        subset: "imagenet100" for these classes only. None: all classes.
        needs_train: whether ``train/`` must be there. If it is not, the training part is empty, and the classes are
            those of the evaluation part.

    Raises:
        InputError: the layout is another one, a class of the subset or of the training part has no images, or a link
            is broken or circular.
        TransientError: a folder cannot be read.
    """
    with reading(path):
        for name in PARTS:
            if (path / name).is_symlink() and not (path / name).exists():
                raise _broken(str(path / name))
        evaluation = [name for name in ("val", "test") if (path / name).is_dir()]
        trains = (path / "train").is_dir()
        if not evaluation or (needs_train and not trains):
            raise _other_layout(path, evaluation, trains)
        kept = None if subset is None else imagenet100()
        passed = PassedOver()
        names = _chosen(path / ("train" if trains else evaluation[-1]), kept)
        notes: list[str] = []
        parts = {
            name: _scan_part(path, name, names, kept, passed, notes)
            for name in (*(["train"] if trains else []), *evaluation)
        }
        test = parts[evaluation[-1]]
        notes += val_for_test(evaluation)
        strangers = [entry.name for entry in sorted(path.iterdir()) if entry.is_dir() and entry.name not in PARTS]
        strangers = [name for name in strangers if not name.startswith(".")]
        if strangers:
            notes.append(f"folders other than train, val and test are passed over: {few(strangers)}")
        return Parts(
            train=parts["train"] if trains else test.take(np.arange(0)),
            test=test,
            validation=parts["val"] if len(evaluation) == 2 else None,
            classes=tuple(names),
            description=f"image folder {path}" + ("" if subset is None else f" ({subset})"),
            kind=_KIND,
            notes=(*passed.note("files"), *notes),
        )


def imagenet100() -> frozenset[str]:
    """Return the wordnet ids of ImageNet-100."""
    text = (resources.files("nuat.data") / "imagenet100.txt").read_text(encoding="ascii")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def _other_layout(path: Path, evaluation: list[str], trains: bool) -> InputError:
    found = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    advice = ""
    if evaluation and not trains:
        advice = f" To train, add train/<class>/; to evaluate only, {evaluation[-1]}/ is enough."
    elif trains:
        advice = (
            " Add test/<class>/ (or val/<class>/) with images that are not trained on, or have nuat choose some: "
            f"--data.path {path / 'train'}."
        )
    return InputError(
        f"{path} is not an image folder: expected train/<class>/ and test/<class>/ (or val/<class>/) with image files "
        f"({', '.join(SUFFIXES[:5])}, ...) in them; found {few(found) or 'nothing'}.{advice}"
    )


def _chosen(part: Path, kept: frozenset[str] | None) -> tuple[str, ...]:
    """Return the classes of the part that defines them, all of ``kept`` if that is given."""
    found = class_folders(part, PassedOver())
    if kept is None:
        return found
    missing = sorted(kept.difference(found))
    if missing:
        raise InputError(
            f"{part} has no class folder {missing[0]}"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            + f" of the {len(kept)} of data.subset=imagenet100; add the images, or leave the subset out."
        )
    return tuple(name for name in found if name in kept)


def class_folders(part: Path, passed: PassedOver) -> tuple[str, ...]:
    """Return the names of a part's class folders, sorted, and count the files next to them.

    Raises:
        InputError: an image lies outside of class folders, or a link is broken.
    """
    found = []
    for entry in sorted(part.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found.append(entry.name)
        elif not entry.exists():
            raise _broken(str(entry))
        elif entry.suffix.lower() in SUFFIXES:
            raise InputError(f"{entry} lies in no class folder; move it to {part}/<class>/.")
        else:
            passed.add(entry.suffix.lower(), f"{part.name}/{entry.name}")
    return tuple(found)


def image_files(folder: Path, inside: str, passed: PassedOver) -> list[_File]:
    """Return the images in a folder and its subfolders, sorted by the parts of their paths."""
    above = tuple(parent.stat() for parent in folder.resolve().parents)
    return sorted(_walk(str(folder), (), above, inside, passed))


def _walk(
    folder: str, above: tuple[str, ...], inside: tuple[os.stat_result, ...], name: str, passed: PassedOver
) -> Iterator[_File]:
    """Yield the images below a folder, following links.

    Args:
        folder: path of the folder.
        above: its path relative to the class folder, in parts.
        inside: the folders that it lies in, to find circles.
        name: its path relative to the data set, for notes.
        passed: counts the other files.
    """
    here = Path(folder).stat()
    if any(os.path.samestat(here, other) for other in inside):
        raise InputError(f"{folder} leads back to a folder that it lies in; remove the link.")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            image = entry.name.lower().endswith(SUFFIXES)
            if entry.is_dir():
                yield from _walk(entry.path, (*above, entry.name), (*inside, here), f"{name}/{entry.name}", passed)
            elif image and entry.is_file():
                status = entry.stat()
                yield (*above, entry.name), status.st_size, status.st_mtime_ns
            elif entry.is_symlink() and not Path(entry.path).exists():
                if not image:
                    raise _broken(entry.path)
                # kept, so that reading it names it as missing
                status = entry.stat(follow_symlinks=False)
                yield (*above, entry.name), status.st_size, status.st_mtime_ns
            else:
                passed.add(Path(entry.name).suffix.lower(), f"{name}/{entry.name}")


def _broken(link: str) -> InputError:
    return InputError(
        f"{link} is a link to {Path(link).readlink()}, which is not there; put it back or remove the link."
    )


def _scan_part(
    root: Path,
    name: str,
    classes: tuple[str, ...],
    kept: frozenset[str] | None,
    passed: PassedOver,
    notes: list[str],
) -> FileSamples:
    part = root / name
    trains = name == "train"
    found = [of for of in class_folders(part, passed) if kept is None or of in kept]
    if not found:
        raise InputError(f"{part} has no class folders; put the images of each class into {part}/<class>/.")
    unknown = sorted(set(found).difference(classes))
    if unknown:
        raise InputError(f"{part / unknown[0]} is not in train; every class needs training images.")
    files: list[str] = []
    labels: list[int] = []
    numbers: list[tuple[int, int]] = []
    empty: list[str] = []
    for label, of in enumerate(classes):
        of_class = image_files(part / of, f"{name}/{of}", passed) if of in found else []
        if not of_class and trains:
            raise InputError(f"{part / of} holds no image ({', '.join(SUFFIXES)}); add images or remove the class.")
        if not of_class:
            empty.append(of)
        files += ["/".join((name, of, *path)) for path, _, _ in of_class]
        labels += [label] * len(of_class)
        numbers += [(size, time) for _, size, time in of_class]
    if not files:
        raise InputError(f"{part} holds no image ({', '.join(SUFFIXES)}); put images into {part}/<class>/.")
    if empty:
        notes.append(f"{name}/ has no image of {len(empty)} of {len(classes)} classes: {few(empty)}")
    sizes, times = np.array(numbers, dtype=np.int64).T.copy()
    return FileSamples(
        root=root,
        names=Names.of(files),
        sizes=sizes,
        times=times,
        all_labels=np.array(labels, dtype=np.int64),
        rows=np.arange(len(files)),
    )
