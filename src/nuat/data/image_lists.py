"""CSV files that list images and their classes.

One file, such as labels.csv, lists all images; a column ``split`` may say to which part each belongs, otherwise the
test images are chosen by their paths. Or a folder holds train.csv and test.csv (or val.csv). The columns are found by
their names; without a header, the column of paths is the one whose cells end like image files. Paths are relative to
the CSV file.
"""

import csv
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from nuat.data.decoding import SUFFIXES
from nuat.data.folders import image_files
from nuat.data.held_out import hold_out
from nuat.data.samples import PART_OF, PARTS, FileSamples, Names, Parts, PassedOver, few, listed_parts, reading
from nuat.errors import InputError

_KIND = "nuat-list-1"  # part of every cache key: raise it when decoding changes
_SUFFIXES = (".csv", ".tsv")
_WHOLE = tuple(f"{stem}{suffix}" for stem in ("labels", "metadata") for suffix in _SUFFIXES)
"""Names of a list of all images of a folder."""
_PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "img", "image_path")
_LABELS = ("label", "class", "class_name", "category", "target", "labels", "y")
_SPLITS = ("split",)
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a list."""

    file: Path
    """The CSV file."""
    number: int
    """Number of the row in the file, from 1; the header counts."""
    image: str
    """Path of the image, relative to the folder of the file, without detours."""
    label: str
    """Its class, as written."""
    part: str | None
    """train, val or test. None: the file does not say."""
    size: int
    """Size of the image file [bytes]."""
    time: int
    """Time of its last change [ns]."""

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}"


def is_list(path: Path) -> bool:
    """Return whether a path is a CSV file, or a folder that holds one called as lists are."""
    with reading(path):
        return path.suffix.lower() in _SUFFIXES if path.is_file() else bool(_files(path))


def scan(path: Path, *, split_seed: int = 0, needs_train: bool = True) -> Parts:
    """Find the images of a list without decoding them.

    Classes are sorted: by number if all labels are integers, otherwise by name. A row that repeats an earlier one is
    passed over, and so are images of the folder ``path`` that no row names; the notes count and name both.

    Args:
        path: a CSV file or its folder.
        split_seed: see ``DataConfig``.
        needs_train: whether there must be training rows. If there are none, the training part is empty, and the classes
            are those of the evaluation part.

    Raises:
        InputError: a file is not CSV or has other columns, a row lacks its path or class, an image is missing or has
            two classes or is in two parts, or the evaluation has a class that training lacks.
        TransientError: a file or folder cannot be read.
    """
    with reading(path):
        files: dict[str | None, Path] = {None: path} if path.is_file() else _files(path)
        root = path.parent if path.is_file() else path
        rows = [row for part, file in files.items() for row in _read(file, part)]
        rows, notes = _without_repeated(rows)
        if not path.is_file():
            notes += _unnamed(root, rows)
    if not rows:
        raise InputError(f"{path} lists no image; write one row for each, its path and its class.")
    names = {part: [row for row in rows if row.part == part] for part in PARTS}
    description = f"list {' and '.join(map(str, files.values()))}"
    if all(row.part is None for row in rows):
        classes = _classes(rows)
        return hold_out(
            _samples(root, rows, classes), [row.image for row in rows], classes=classes, description=description,
            kind=_KIND, seed=split_seed, notes=tuple(notes), by="paths",
        )  # fmt: skip
    evaluation = [part for part in ("val", "test") if names[part]]
    if not evaluation or (needs_train and not names["train"]):
        missing = "train" if evaluation else "test (or val)"
        raise InputError(f"{path} lists no image of the part {missing}; found {few([p for p in PARTS if names[p]])}.")
    classes = _classes(names["train"] or names[evaluation[-1]])
    parts = {part: _samples(root, names[part], classes) for part in ("train", *evaluation)}
    sizes = " ".join(str(len(part)) for part in parts.values())  # a row may move to the next part
    return listed_parts(
        parts, evaluation, classes, checked=evaluation, description=description, kind=f"{_KIND} {sizes}", notes=notes
    )


def _files(folder: Path) -> dict[str | None, Path]:
    """Return the lists in a folder, by part; None: all parts."""
    found: dict[str | None, Path] = {}
    for part in PARTS:
        lists = [folder / (part + suffix) for suffix in _SUFFIXES if (folder / (part + suffix)).is_file()]
        if lists:
            found[part] = lists[0]
    if found:
        return found
    return next(({None: folder / name} for name in _WHOLE if (folder / name).is_file()), {})


def _read(file: Path, part: str | None) -> list[_Row]:
    """Return the rows of a file, each with a class and an image that is there."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:  # Windows' editors begin with a byte-order mark
            delimiter = _delimiter(text.readline())
            text.seek(0)
            cells = [(i, row) for i, row in enumerate(csv.reader(text, delimiter=delimiter), 1) if any(row)]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text; save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"{file} cannot be read as CSV ({error}); write one row for each image.") from error
    if not cells:
        return []
    path, label, split, header = _columns(file, cells[0][1])
    rows: list[_Row] = []
    missing: list[str] = []
    for number, row in cells[header:]:
        where = f"{file}, row {number}"
        if len(row) <= max(path, label, -1 if split is None else split):
            raise InputError(f"{where}: has {len(row)} cells; expected a path and a class, as in the first row.")
        image, name = row[path].strip(), row[label].strip()
        if not image or not name:
            raise InputError(f"{where}: has no {'class' if image else 'path'}; write it, or remove the row.")
        row_part = part if split is None else PART_OF.get(row[split].strip().lower())
        if split is not None and row_part is None:
            raise InputError(f"{where}: the split {row[split]!r} is none of {', '.join(PARTS)}; correct it.")
        image = _inside(os.path.normpath(image), file.parent)
        try:
            status = (file.parent / image).stat()
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            missing.append(f"{where}: {image!r} cannot be read ({getattr(error, 'strerror', None) or error})")
            continue
        if not stat.S_ISREG(status.st_mode):
            missing.append(f"{where}: {image!r} is no file")
            continue
        rows.append(_Row(file, number, image, name, row_part, status.st_size, status.st_mtime_ns))
    if missing:
        more = f" And so for {len(missing) - 1} more of {len(cells) - header} rows." if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}; paths are relative to {file.parent}. Correct the row or remove it.{more}")
    return rows


def _inside(image: str, folder: Path) -> str:
    """Return a path in ``folder`` relative to it, even if it is written in full, and other paths as they are."""
    full = PurePath(image)
    return str(full.relative_to(folder.absolute())) if full.is_relative_to(folder.absolute()) else image


def _delimiter(line: str) -> str:
    """Return the character that separates the cells of a first line."""
    return max(",;\t", key=line.count)


def _columns(file: Path, first: Sequence[str]) -> tuple[int, int, int | None, bool]:
    """Return the columns of path, class and split, from 0, and whether the first row is a header."""
    cells = [cell.strip().lower() for cell in first]
    images = [i for i, cell in enumerate(cells) if cell.endswith(SUFFIXES)]
    if not images:
        path, label, split = (
            next((cells.index(name) for name in names if name in cells), None) for names in (_PATHS, _LABELS, _SPLITS)
        )
        if path is not None and label is not None:
            return path, label, split, True
    elif len(cells) == 2 and len(images) == 1:
        return images[0], 1 - images[0], None, False
    raise InputError(
        f"{file}: its first row is {', '.join(first)!r}; expected a header with the columns path and label, "
        "or, without a header, two columns: the path of an image and its class."
    )


def _without_repeated(rows: list[_Row]) -> tuple[list[_Row], list[str]]:
    """Return the rows without those that repeat an earlier one, and a note on these."""
    seen: dict[Path, _Row] = {}
    kept: list[_Row] = []
    repeated: list[_Row] = []
    for row in rows:
        before = seen.setdefault(row.file.parent / row.image, row)
        if before is row:
            kept.append(row)
        elif before.label != row.label or before.part != row.part:
            what = "the class" if before.label != row.label else "the part"
            one, other = (before.label, row.label) if before.label != row.label else (before.part, row.part)
            raise InputError(
                f"{row}: {row.image!r} has {what} {str(other)!r}, but {str(one)!r} in {before}; remove one of the rows."
            )
        else:
            repeated.append(row)
    if not repeated:
        return kept, []
    named = few([f"{row.file.name}, row {row.number} ({row.image})" for row in repeated])
    return kept, [f"{len(repeated)} rows repeat an earlier row and are passed over: {named}"]


def _unnamed(root: Path, rows: list[_Row]) -> list[str]:
    """Return a note on the images of a folder that no row names."""
    named = {row.image for row in rows}
    there = ["/".join(parts) for parts, _, _ in image_files(root, root.name, PassedOver())]
    others = [name for name in there if os.path.normpath(name) not in named]
    if not others:
        return []
    return [f"{len(others)} images are in no row and are passed over: {few(others)}"]


def _classes(rows: list[_Row]) -> tuple[str, ...]:
    """Return the names of the classes, in the order of their labels."""
    names = {row.label for row in rows}
    return tuple(sorted(names, key=int) if all(map(_INTEGER.fullmatch, names)) else sorted(names))


def _samples(root: Path, rows: list[_Row], classes: tuple[str, ...]) -> FileSamples:
    """Return the images of rows; refuse a class that is not one of ``classes``."""
    numbers = {name: label for label, name in enumerate(classes)}
    for row in rows:
        if row.label not in numbers:
            raise InputError(
                f"{row}: the class {row.label!r} has no training image; correct it, or add training images."
            )
    return FileSamples(
        root=root,
        names=Names.of(row.image for row in rows),
        sizes=np.array([row.size for row in rows], dtype=np.int64),
        times=np.array([row.time for row in rows], dtype=np.int64),
        all_labels=np.array([numbers[row.label] for row in rows], dtype=np.int64),
        rows=np.arange(len(rows)),
    )
