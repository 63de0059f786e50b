"""Parquet files, and folders that Hugging Face's ``datasets`` saved: a column of images and one of classes.

| layout | parts |
|---|---|
| NAME.parquet | none: the test images are chosen by their content |
| train-00000-of-00002.parquet, test-..., validation-..., at any depth | by the names of files or folders |
| state.json, data-00000-of-00001.arrow (``Dataset.save_to_disk``) | none |
| dataset_dict.json, train/state.json, ... (``DatasetDict.save_to_disk``) | by the name of the folder |

The encoded images are copied once to the cache, where they are read one by one in any order.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from nuat.data.decoding import SUFFIXES
from nuat.data.held_out import hold_out
from nuat.data.samples import PART_OF, Names, Parts, PassedOver, ShardSamples, few, listed_parts, reading
from nuat.data.table_file import Table, copied, packages
from nuat.errors import InputError, printable

_KIND = "nuat-table-1"  # part of every cache key: raise it when the copy or decoding changes
_NUMBERED = re.compile(r"(.+)-(\d+)-of-(\d+)")
_SHOWN = 20  # characters of a wrong value that an error shows


def is_table(path: Path) -> bool:
    """Return whether a path is a Parquet file or a folder of tables."""
    with reading(path):
        if path.is_file():
            return path.suffix.lower() == ".parquet"
        return any((path / name).is_file() for name in ("dataset_dict.json", "state.json")) or bool(_parquet(path))


def scan(path: Path, cache: Path, *, split_seed: int = 0, needs_train: bool = True) -> Parts:
    """Find the images of tables without decoding them.

    Columns and classes are those that ``datasets`` noted in the file (Image and ClassLabel). Without its notes, columns
    are found by their names, and the classes are the values of the training part.

    Args:
        path: a Parquet file, or a folder.
        cache: folder that keeps copies of the encoded images, in ``cache/tables``.
        split_seed: see ``DataConfig``.
        needs_train: whether there must be a training part. If there is none, it is empty, and the classes are those of
            the evaluation part.

    Raises:
        InputError: pyarrow is not installed; a file is missing, damaged or has other columns; a row lacks its image or
            class, or has an unknown class.
        TransientError: a file or folder cannot be read.
    """
    passed = PassedOver()
    with reading(path):
        files: dict[str | None, list[Path]] = (
            {None: [path]} if path.is_file() else _saved(path) or _by_part(path, passed)
        )
        arrow = packages(path)
        root = path.parent if path.is_file() else path
        shown = [file for of_part in files.values() for file in of_part]
        read = {file: copied(file, cache / "tables", arrow) for file in _tracked(shown)}
    notes = list(passed.note("files"))
    description = f"Parquet {path}" if shown[0].suffix.lower() == ".parquet" else f"saved data set {path}"
    evaluation = [part for part in ("val", "test") if part in files]
    first = "train" if "train" in files else next(iter(files))
    classes = _classes([(file, read[file]) for file in files[first]])

    def samples(part: str | None) -> ShardSamples:
        return _samples(root, [(file, read[file]) for file in files.get(part, ())], classes)

    if not evaluation:
        whole = samples(first)
        digests = [digest for file in files[first] for digest in read[file].digests.tolist()]
        return hold_out(
            whole, digests, classes=classes, description=description, kind=_KIND, seed=split_seed, notes=tuple(notes),
            by="content",
        )  # fmt: skip
    if needs_train and "train" not in files:
        raise InputError(f"{path} has the part {evaluation[-1]} but no train; add training images.")
    parts = {part: samples(part) for part in ("train", *evaluation)}
    return listed_parts(
        parts, evaluation, classes, checked=parts if "train" in files else evaluation, description=description,
        kind=_KIND, notes=notes,
    )  # fmt: skip


def _saved(path: Path) -> dict[str | None, list[Path]]:
    """Return the files of a data set that ``save_to_disk`` wrote, by part; empty: it is none."""
    if (path / "dataset_dict.json").is_file():
        splits = _json(path / "dataset_dict.json").get("splits")
        names = [str(name) for name in splits] if isinstance(splits, list) else []
        unknown = [name for name in names if PART_OF.get(name) is None]
        if unknown or not names or len({PART_OF[name] for name in names}) < len(names):
            raise InputError(
                f"{path} has the splits {printable(', '.join(names)) or 'none'}; expected train and test or validation."
            )
        return {PART_OF[name]: _saved_files(path / name) for name in names}
    return {None: _saved_files(path)} if (path / "state.json").is_file() else {}


def _saved_files(folder: Path) -> list[Path]:
    entries = _json(folder / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    files = [folder / Path(str(name)).name for name in names]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"{missing[0] if missing else folder / 'state.json'}: no such table; save the data set again.")
    return files


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({' '.join(str(error).split())}); save the data set again.") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no JSON object; save the data set again.")
    return values


def _parquet(path: Path) -> list[Path]:
    """Return the Parquet files in a folder and in those of its subfolders, two levels deep, that hold no images."""
    found: list[Path] = []
    folders = [path]
    for _ in range(3):
        entries = [entry for folder in folders for entry in sorted(folder.iterdir()) if entry.name[0] != "."]
        images = {entry.parent for entry in entries if entry.suffix.lower() in SUFFIXES}
        found += [entry for entry in entries if entry.suffix.lower() == ".parquet" and entry.parent not in images]
        folders = [entry for entry in entries if entry.parent not in images and entry.is_dir()]
    return found


def _by_part(path: Path, passed: PassedOver) -> dict[str | None, list[Path]]:
    """Return the Parquet files of a folder by part, and count those of no known part; None: there are no parts."""
    groups: dict[str | None, list[Path]] = {}
    homes: dict[Path, None] = {}
    for file in _parquet(path):
        named = PART_OF.get(re.split(r"[-._]", file.stem)[0].lower())
        in_folder = PART_OF.get(file.parent.name.lower()) if file.parent != path else None
        groups.setdefault(named or in_folder, []).append(file)
        homes[file.parent.parent if in_folder and not named else file.parent] = None
    if len(homes) > 1:
        names = few([str(home.relative_to(path)) for home in homes])
        raise InputError(f"{path} holds Parquet files of several data sets ({names}); give one of their folders.")
    if len(groups) > 1:
        for file in groups.pop(None, ()):
            passed.add(file.suffix.lower(), str(file.relative_to(path)))
    for of_part in groups.values():
        _check_numbers(of_part)
    return groups


def _check_numbers(files: Sequence[Path]) -> None:
    """Refuse files ...-00000-of-00003 of which one is missing, or there twice."""
    numbers: dict[int, list[int]] = {}
    for file in files:
        match = _NUMBERED.match(file.stem)
        if match:
            numbers.setdefault(int(match[3]), []).append(int(match[2]))
    if len(numbers) > 1 or any(len(set(there)) < len(there) for there in numbers.values()):
        named = few([file.name for file in files])
        raise InputError(f"{files[0].parent} holds a part in two versions ({named}); remove the files of the old one.")
    for total, there in numbers.items():
        if len(there) < total:
            first = next(number for number in range(total) if number not in there)
            raise InputError(
                f"{files[0].parent}: file {first} (from 0) of {total} like {files[0].name} is missing; copy it there."
            )


def _tracked(files: list[Path]) -> Iterator[Path]:
    console, quiet = Console(stderr=True), not sys.stderr.isatty()
    yield from track(files, "Reading tables", console=console, transient=True, disable=quiet)


def _classes(tables: Sequence[tuple[Path, Table]]) -> tuple[str, ...]:
    """Return the names of the classes of a part, in the order of their labels."""
    if tables[0][1].classes is not None:
        return tables[0][1].classes
    return tuple(str(value) for value in np.unique(np.concatenate([table.labels for _, table in tables])))


def _samples(root: Path, tables: Sequence[tuple[Path, Table]], classes: tuple[str, ...]) -> ShardSamples:
    """Return the images of the tables of a part; refuse classes other than ``classes``."""
    numbers = {name: label for label, name in enumerate(classes)}
    labels: list[int] = []
    for file, table in tables:
        if table.classes is not None:
            if table.classes != classes:
                raise InputError(f"{file} has other classes than the training part; write both with the same names.")
            labels += table.labels.tolist()
            continue
        for row, value in enumerate(table.labels.tolist()):
            if str(value) not in numbers:
                raise InputError(
                    f"{file}, row {row}: the class {str(value)[:_SHOWN]!r} has no training image; correct "
                    "it, or add training images."
                )
            labels.append(numbers[str(value)])
    sizes = np.concatenate([table.sizes for _, table in tables]) if tables else np.empty(0, dtype=np.int64)
    offsets = [np.cumsum(table.sizes) - table.sizes for _, table in tables]
    lengths = [len(table.sizes) for _, table in tables]
    stats = [file.stat() for file, _ in tables]
    return ShardSamples(
        root=root,
        names=Names.of(f"row {row}" for length in lengths for row in range(length)),
        sizes=sizes,
        all_labels=np.array(labels, dtype=np.int64),
        rows=np.arange(len(sizes)),
        shards=tuple(str(file.relative_to(root)) for file, _ in tables),
        files=tuple(str(table.copy) for _, table in tables),
        shard_stamps=tuple(f"{status.st_size}:{status.st_mtime_ns}" for status in stats),
        shard=np.repeat(np.arange(len(tables), dtype=np.int32), lengths),
        offsets=np.concatenate(offsets) if offsets else np.empty(0, dtype=np.int64),
    )
