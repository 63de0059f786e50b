"""Tar shards in the webdataset format: train/NAME-000000.tar, train/NAME-000001.tar, ... and val/ or test/ likewise.

Read of that format is: uncompressed tar files whose members come in samples, one after the other, of the same key (the
name up to the first dot); of each sample the image ``key.jpg``, ``.jpeg``, ``.png`` or ``.webp`` and its class
``key.cls``, an integer as text. Members of other types are passed over. The tar files are indexed once, so that any
sample can be read at random, which is what lets a run go on in the middle of an epoch.
"""

import itertools
import os
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from nuat.data.cache import cache_key, read_cache, write_cache
from nuat.data.samples import Names, Parts, ShardSamples, reading
from nuat.errors import InputError

_KIND = "nuat-shards-1"  # part of every cache's key: raise it when the index changes
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_NAME = re.compile(r"(.+)-(\d+)\.tar")
_NAMED = 4  # members that an error names
_BLOCK = 512  # bytes that a tar file is made of

_Sample = tuple[str, int, int, int]
"""The image's name, where it begins [bytes], its size [bytes], the label."""


def are_shards(path: Path) -> bool:
    """Return whether the training part of a folder holds tar files."""
    return any((path / "train").glob("*.tar"))


def scan(path: Path, cache: Path) -> Parts:
    """Find the samples of a folder's shards, and decode none.

    Layout: ``train/`` and ``test/`` (or ``val/``; with both, that is the validation part), each with shards numbered
    from 0 without a gap. A file ``classes.txt`` beside them names the classes, one a line; without it they are called
    by their numbers, and each must have a training image.

    Args:
        path: the folder.
        cache: the index is kept in ``cache/shards``, under a name made from the shards' names, sizes and times.

    Raises:
        InputError: a shard is missing or damaged, a part holds no sample, a sample lacks its image or its class, or a
            class is out of range.
        TransientError: a folder cannot be read.
    """
    with reading(path):
        evaluation = [name for name in ("val", "test") if (path / name).is_dir()]
        if not evaluation:
            raise InputError(f"{path} has shards in train/ but neither test/ nor val/; add the evaluation's shards.")
        samples = {name: _part(path, _shards(path, name), cache) for name in ("train", *evaluation)}
        for name, part in samples.items():
            if not len(part):
                raise _no_samples(path / name, [path / shard for shard in part.shards])
        classes = _classes(path, samples["train"])
        for part in samples.values():
            _check_range(part, len(classes), path)
        return Parts(
            train=samples["train"],
            test=samples[evaluation[-1]],
            validation=samples["val"] if len(evaluation) == 2 else None,
            classes=classes,
            description=f"shards {path}",
            kind=_KIND,
        )


def _shards(root: Path, part: str) -> tuple[str, ...]:
    """Return the shards of a part, relative to root, in the order of their numbers."""
    folder = root / part
    numbers: dict[str, dict[int, str]] = {}
    for file in sorted(file for file in folder.iterdir() if file.suffix == ".tar"):
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise InputError(f"{file} is not called as shards are, NAME-000000.tar; rename or remove it.")
        of_name = numbers.setdefault(match[1], {})
        if int(match[2]) in of_name:
            raise InputError(f"{file} has the number of {of_name[int(match[2])]}; remove one of them.")
        of_name[int(match[2])] = file.name
    if len(numbers) != 1:
        found = f"those of {' and '.join(numbers)}" if numbers else "none"
        raise InputError(f"{folder}: expected shards NAME-000000.tar, ... of one NAME; found {found}.")
    ((name, files),) = numbers.items()
    missing = sorted(set(range(max(files) + 1)).difference(files))
    if missing:
        digits = len(next(iter(files.values()))) - len(f"{name}-.tar")
        raise InputError(
            f"{folder}: shard {name}-{missing[0]:0{digits}d}.tar is missing"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
            + f" of {max(files) + 1}; copy it there, or number the shards from 0 without a gap."
        )
    return tuple(f"{part}/{files[number]}" for number in sorted(files))


def _no_samples(folder: Path, shards: list[Path]) -> InputError:
    """Return the error that the shards of a folder, which are whole, hold none, with the first members that they do."""
    seen: list[str] = []
    for shard in shards:
        with tarfile.open(shard, "r:") as tar:
            seen += [member.name for member in itertools.islice(tar, _NAMED + 1 - len(seen))]
        if len(seen) > _NAMED:
            break
    found = ", ".join(seen[:_NAMED]) + (", ..." if len(seen) > _NAMED else "") or "nothing"
    return InputError(
        f"{folder}: no sample in its shards; expected KEY.cls beside KEY{', KEY'.join(_IMAGES)}, where a "
        f"name's key ends at its first dot; found {found}. Write them again."
    )


def _part(root: Path, shards: tuple[str, ...], cache: Path) -> ShardSamples:
    stamps = []
    for shard in shards:
        status = (root / shard).stat()
        stamps.append(f"{status.st_size}:{status.st_mtime_ns}")

    def samples(index: dict[str, NDArray[Any]]) -> ShardSamples:
        return ShardSamples(
            root=root,
            names=Names(index["text"], index["ends"]),
            sizes=index["sizes"],
            all_labels=index["labels"],
            rows=np.arange(len(index["sizes"])),
            shards=shards,
            shard_stamps=tuple(stamps),
            shard=index["shard"],
            offsets=index["offsets"],
        )

    key = cache_key(_KIND, "index", [samples(_arrays([], []))])
    path = cache / "shards" / f"{key}.npz"
    found = _known_index(path, len(shards))
    if found is None:
        found = _index(root, shards)
        write_cache(path, **found)
    return samples(found)


def _known_index(path: Path, shards: int) -> dict[str, NDArray[Any]] | None:
    """Return the index made before, or None where there is no whole file of it (it is then made again)."""
    found = read_cache(path)
    if found is None or found.keys() != _arrays([], []).keys():
        return None
    lengths = {len(values) for name, values in found.items() if name != "text"}
    whole = len(lengths) == 1 and int(found["shard"].max(initial=0)) < shards
    return found if whole else None


def _index(root: Path, shards: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the headers of all shards."""
    pieces = []
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    for number, shard in enumerate(track(shards, "Indexing shards", console=console, transient=True, disable=quiet)):
        samples = _samples(root / shard)
        pieces.append(_arrays(samples, [number] * len(samples)))
    sizes = [len(piece["text"]) for piece in pieces]
    before = np.cumsum([0, *sizes[:-1]])
    for piece, shift in zip(pieces, before, strict=True):
        piece["ends"] = piece["ends"] + shift
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _arrays(samples: list[_Sample], shard: list[int]) -> dict[str, NDArray[Any]]:
    names = Names.of(sample[0] for sample in samples)
    offsets, sizes, labels = (np.array([sample[k] for sample in samples], dtype=np.int64) for k in (1, 2, 3))
    return {
        "text": names.text,
        "ends": names.ends,
        "offsets": offsets,
        "sizes": sizes,
        "labels": labels,
        "shard": np.array(shard, dtype=np.int32),
    }


def _samples(path: Path) -> list[_Sample]:
    """Return the samples of a shard, in order."""
    found: list[_Sample] = []
    key, image, label = "", None, None
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, base = os.path.split(member.name)
                stem, dot, suffix = base.partition(".")
                suffix = (dot + suffix).lower()
                if not member.isreg() or suffix not in (*_IMAGES, ".cls"):
                    continue
                if f"{folder}/{stem}" != key:
                    _finish(path, key, image, label, found)
                    key, image, label = f"{folder}/{stem}", None, None
                if suffix == ".cls":
                    if label is not None:
                        raise InputError(f"{path}: sample {stem} has two classes; remove one.")
                    file.seek(member.offset_data)
                    label = _label(path, member.name, file.read(min(member.size, 64)))
                else:
                    if image is not None:
                        raise InputError(f"{path}: sample {stem} has two images; remove one.")
                    image = (member.name, member.offset_data, member.size)
            _check_end(path, file, tar.offset)
        _finish(path, key, image, label, found)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a tar file ({error}); copy it again.") from error
    return found


def _finish(path: Path, key: str, image: tuple[str, int, int] | None, label: int | None, found: list[_Sample]) -> None:
    """Add a sample whose members have all been seen."""
    if not key:
        return
    if image is None or label is None:
        what = "class (a member .cls)" if image is not None else f"image ({', '.join(_IMAGES)})"
        raise InputError(
            f"{path}: sample {key.lstrip('/')} has no {what}; write the shard again with both side by side."
        )
    found.append((*image, label))


def _label(path: Path, name: str, text: bytes) -> int:
    if not re.fullmatch(rb"\s*-?\d{1,9}\s*", text):
        raise InputError(f"{path}: {name} holds {text[:20]!r}; expected the number of the class as text, such as 3.")
    return int(text)


def _check_end(path: Path, file: Any, offset: int) -> None:
    """Refuse a shard whose readable part is not followed by the zeros that end a tar file."""
    file.seek(offset)
    mark = file.read(_BLOCK)
    if len(mark) < _BLOCK or any(mark):
        what = "is cut short" if len(mark) < _BLOCK else "is damaged"
        raise InputError(f"{path} {what} after {offset:,} bytes; copy it again.")


def _classes(path: Path, train: ShardSamples) -> tuple[str, ...]:
    file = path / "classes.txt"
    if file.is_file():
        try:
            names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is no UTF-8 text; write one name of a class a line.") from error
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{file} holds {twice!r} twice; give every class its own name.")
        return names
    present = np.unique(train.labels[train.labels >= 0])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise InputError(
            f"{path}: the training shards have classes up to {present[-1]} but no image of class {gaps[0]}; number "
            "them 0, 1, 2, ... without a gap, or name all of them in classes.txt."
        )
    return tuple(str(label) for label in range(len(present)))


def _check_range(part: ShardSamples, classes: int, path: Path) -> None:
    out = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
    if len(out):
        named = f"{path / 'classes.txt'} names" if (path / "classes.txt").is_file() else "the training shards have"
        raise InputError(
            f"{part.name(int(out[0]))} is of class {part.labels[out[0]]}, but {named} {classes} classes, numbered from "
            "0; correct the number."
        )
