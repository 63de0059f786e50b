"""Tar shards in the webdataset format: train/NAME-000000.tar, train/NAME-000001.tar, ... and likewise val/ or test/.

A shard is a tar file, or one compressed as .tar.gz. Its members come in samples, one after the other, of the same key
(the name up to the first dot): the image ``key.jpg`` (or another suffix of ``decoding.SUFFIXES``) and its class
``key.cls``, an integer as text. Members of other types are passed over, and the notes count and name them. The tar
files are indexed once, so that any sample can be read directly, which lets a run resume in the middle of an epoch.
"""

import itertools
import os
import re
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from nuat.data.cache import cache_key, read_cache, uncompressed, write_cache
from nuat.data.decoding import SUFFIXES
from nuat.data.images import named_classes, numbered_classes
from nuat.data.samples import Names, Parts, PassedOver, ShardSamples, reading, val_for_test
from nuat.errors import InputError

_KIND = "nuat-shards-2"  # part of every cache key: raise it when the index or decoding changes
_NAME = re.compile(r"(.+)-(\d+)(\.tar|\.tar\.gz|\.tgz)")
_ENDINGS = (".tar", ".tar.gz", ".tgz")
_NAMED = 4  # members that an error names
_BLOCK = 512  # size of the blocks of a tar file [bytes]
_DOTTED = " with more dots in its name"
# errors of tarfile and gzip for a damaged or hostile file
_UNREADABLE = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError, TypeError),
    *(KeyError, IndexError, zlib.error),
)

_Sample = tuple[str, int, int, int]
"""The image's name, where it begins [bytes], its size [bytes], the label."""


def are_shards(path: Path) -> bool:
    """Return whether a part of a folder holds tar files."""
    with reading(path):
        parts = [path / name for name in ("train", "val", "test") if (path / name).is_dir()]
        return any(file.name.endswith(_ENDINGS) for part in parts for file in part.iterdir())


def scan(path: Path, cache: Path, *, needs_train: bool = True) -> Parts:
    """Find the samples of a folder's shards without decoding them.

    Layout: ``train/`` and ``test/`` (or ``val/``; with both, that is the validation part), each with shards numbered
    from 0 without a gap. A file ``classes.txt`` in the folder names the classes, one per line. Without it classes are
    called by their numbers, and each must have a training image.

    Args:
        path: the folder.
        cache: folder that keeps the index and uncompressed copies of compressed shards, in ``cache/shards``.
        needs_train: whether ``train/`` must be there. If it is not, the training part is empty, and the classes are
            those of the evaluation part.

    Raises:
        InputError: a shard is missing or damaged, a part holds no sample, a sample lacks its image or its class, or a
            class is out of range.
        TransientError: a folder cannot be read.
    """
    with reading(path):
        evaluation = [name for name in ("val", "test") if (path / name).is_dir()]
        trains = (path / "train").is_dir()
        if not evaluation:
            raise InputError(f"{path} has shards in train/ but neither test/ nor val/; add the evaluation's shards.")
        if needs_train and not trains:
            raise InputError(
                f"{path} has shards in {evaluation[-1]}/ but no train/; add training shards. To evaluate only, "
                f"{evaluation[-1]}/ is enough."
            )
        passed, members = PassedOver(), PassedOver()
        names = (*(["train"] if trains else []), *evaluation)
        samples = {name: _part(path, _shards(path, name, passed), cache, members) for name in names}
        for name, part in samples.items():
            if not len(part):
                raise _no_samples(path / name, [part.root / file for file in part.files])
        classes = _classes(path, samples[names[0] if trains else evaluation[-1]])
        for part in samples.values():
            _check_range(part, len(classes), path)
        test = samples[evaluation[-1]]
        return Parts(
            train=samples["train"] if trains else test.take(np.arange(0)),
            test=test,
            validation=samples["val"] if len(evaluation) == 2 else None,
            classes=classes,
            description=f"shards {path}",
            kind=_KIND,
            notes=(*passed.note("files"), *members.note("members of shards"), *val_for_test(evaluation)),
        )


def _shards(root: Path, part: str, passed: PassedOver) -> tuple[str, ...]:
    """Return the shards of a part, relative to root, in the order of their numbers, and count its other files."""
    folder = root / part
    numbers: dict[str, dict[int, str]] = {}
    for file in sorted(folder.iterdir()):
        if not file.name.endswith(_ENDINGS):
            if not file.name.startswith("."):
                passed.add(file.suffix.lower(), f"{part}/{file.name}")
            continue
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
    if max(files) >= len(files):
        # never by a set of all numbers below the largest, which may be a date
        first = next(number for number in range(len(files)) if number not in files)
        missing = max(files) + 1 - len(files)
        width = len(_NAME.fullmatch(files[max(files)])[2])  # type: ignore[index]
        raise InputError(
            f"{folder}: shard {name}-{first:0{width}d}.tar is missing"
            + (f" (and {missing - 1} more)" if missing > 1 else "")
            + f" of {max(files) + 1}; copy it there, or number the shards from 0 without a gap."
        )
    return tuple(f"{part}/{files[number]}" for number in sorted(files))


def _no_samples(folder: Path, shards: list[Path]) -> InputError:
    """Return the error that the whole shards of a folder hold no sample, with the first members that they do hold."""
    seen: list[str] = []
    for shard in shards:
        with tarfile.open(shard, "r:") as tar:
            seen += [member.name for member in itertools.islice(tar, _NAMED + 1 - len(seen))]
        if len(seen) > _NAMED:
            break
    found = ", ".join(seen[:_NAMED]) + (", ..." if len(seen) > _NAMED else "") or "nothing"
    return InputError(
        f"{folder}: no sample in its shards; expected KEY.cls and KEY{', KEY'.join(SUFFIXES[:5])}, ..., where a "
        f"name's key ends at its first dot; found {found}. Write them again."
    )


def _part(root: Path, shards: tuple[str, ...], cache: Path, passed: PassedOver) -> ShardSamples:
    """Return the samples of a part, and count the members that are passed over."""
    stamps = []
    for shard in shards:
        status = (root / shard).stat()
        stamps.append(f"{status.st_size}:{status.st_mtime_ns}")
    files = tuple(
        shard if shard.endswith(".tar") else str(uncompressed(root / shard, stamp, cache / "shards"))
        for shard, stamp in zip(shards, stamps, strict=True)
    )

    def samples(index: dict[str, NDArray[Any]]) -> ShardSamples:
        return ShardSamples(
            root=root,
            names=Names(index["text"], index["ends"]),
            sizes=index["sizes"],
            all_labels=index["labels"],
            rows=np.arange(len(index["sizes"])),
            shards=shards,
            files=files,
            shard_stamps=tuple(stamps),
            shard=index["shard"],
            offsets=index["offsets"],
        )

    key = cache_key(_KIND, "index", [samples(_arrays([], []))])
    path = cache / "shards" / f"{key}.npz"
    found = _known_index(path, len(shards))
    if found is None:
        others = PassedOver()
        found = _index([root / file for file in files], shards, others)
        kinds = list(others.counts)
        found["other_kinds"] = np.array(kinds, dtype=np.str_)
        found["other_counts"] = np.array([others.counts[kind] for kind in kinds], dtype=np.int64)
        found["other_first"] = np.array([others.first[kind] for kind in kinds], dtype=np.str_)
        write_cache(path, **found)
    for kind, count, first in zip(
        *(found[f"other_{name}"].tolist() for name in ("kinds", "counts", "first")), strict=True
    ):
        passed.add(kind, first, count)
    return samples(found)


def _known_index(path: Path, shards: int) -> dict[str, NDArray[Any]] | None:
    """Return the index that the cache holds, or None if it has no whole file of it."""
    found = read_cache(path)
    others = {f"other_{name}" for name in ("kinds", "counts", "first")}
    if found is None or found.keys() != _arrays([], []).keys() | others:
        return None
    lengths = {len(values) for name, values in found.items() if name != "text" and name not in others}
    whole = len(lengths) == 1 and int(found["shard"].max(initial=0)) < shards
    return found if whole else None


def _index(files: list[Path], shards: tuple[str, ...], passed: PassedOver) -> dict[str, NDArray[Any]]:
    """Read the headers of all shards."""
    pieces = []
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    for number, file in enumerate(track(files, "Indexing shards", console=console, transient=True, disable=quiet)):
        samples = _samples(file, shards[number], passed)
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


def _samples(path: Path, shard: str, passed: PassedOver) -> list[_Sample]:
    """Return the samples of a shard, in order, and count its other members."""
    found: list[_Sample] = []
    key, image, label = "", None, None
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, base = os.path.split(member.name)
                stem, dot, suffix = base.partition(".")
                suffix = (dot + suffix).lower()
                if member.size < 0:  # the next member would be looked for before this one, for ever
                    raise InputError(f"{path}: {member.name} has a negative size; write the shard again.")
                if member.isdir() or base.startswith("."):
                    continue
                if not member.isreg() or member.issparse() or suffix not in (*SUFFIXES, ".cls"):
                    last = Path(base).suffix.lower() if member.isreg() else " that is not a plain file"
                    dotted = last != suffix and last in (*SUFFIXES, ".cls")
                    passed.add(f"{last}{_DOTTED}" if dotted else last, f"{shard}: {member.name}")
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
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as a tar file ({reason}); copy it again.") from error
    return found


def _finish(path: Path, key: str, image: tuple[str, int, int] | None, label: int | None, found: list[_Sample]) -> None:
    """Add a sample once all its members have been seen."""
    if not key:
        return
    if image is None or label is None:
        what = "class (a member .cls)" if image is not None else f"image ({', '.join(SUFFIXES[:5])})"
        raise InputError(
            f"{path}: sample {key.lstrip('/')} has no {what}; write the shard again with both next to each other."
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
    """Return the names of the classes, from classes.txt or from the labels of the training part."""
    file = path / "classes.txt"
    if file.is_file():
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()  # Windows' editors begin with a byte-order mark
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8 text; write the name of one class per line.") from error
        return named_classes((line.strip() for line in lines if line.strip()), str(file))
    return numbered_classes(train.labels[train.labels >= 0], f"{path}: the training shards have", "classes.txt")


def _check_range(part: ShardSamples, classes: int, path: Path) -> None:
    out = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
    if len(out):
        named = f"{path / 'classes.txt'} names" if (path / "classes.txt").is_file() else "the training shards have"
        raise InputError(
            f"{part.name(int(out[0]))} is of class {part.labels[out[0]]}, but {named} {classes} classes, numbered from "
            "0; correct the number."
        )
