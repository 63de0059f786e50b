"""Encoded images with their labels, read one by one in any order.

Millions of samples are held in a few arrays rather than in Python objects. Worker processes share the memory pages of
an array; counting the references to an object copies its page into every process that uses it.
"""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nuat.data.order import epoch_order, shard_order
from nuat.errors import TransientError, printable

_KINDS_NAMED = 6


PARTS = ("train", "val", "test")
"""Names of the parts of a data set."""
PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Usual name of a part, in lower case, to ours."""


@dataclass(frozen=True, eq=False)
class Names:
    """M names, held as two arrays."""

    text: NDArray[np.uint8]
    """All names, concatenated."""
    ends: NDArray[np.int64]
    """[M], where each name ends."""

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Pack names."""
        encoded = [os.fsencode(name) for name in names]
        text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(text, np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __getitem__(self, i: int) -> str:
        start = int(self.ends[i - 1]) if i else 0
        return os.fsdecode(self.text[start : int(self.ends[i])].tobytes())


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples(ABC):
    """N encoded images: ``rows`` of the M images of a source."""

    root: Path
    """Folder of the source."""
    names: Names
    """Names of all M."""
    sizes: NDArray[np.int64]
    """[M], size of the encoded image [bytes]."""
    all_labels: NDArray[np.int64]
    """[M], classes from 0."""
    rows: NDArray[np.int64]
    """[N], positions of these samples among the M."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N], classes from 0."""
        return self.all_labels[self.rows]

    def take(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Return the samples at ``indices``, in that order, or those that a mask bool [N] selects."""
        return replace(self, rows=self.rows[indices])

    @abstractmethod
    def name(self, i: int) -> str:
        """Return the name of sample ``i`` for messages."""

    @abstractmethod
    def read(self, i: int) -> bytes:
        """Return the encoded image ``i``.

        Raises:
            TransientError: the image cannot be read.
        """

    @abstractmethod
    def stamps(self) -> Iterator[bytes]:
        """Yield what identifies the samples' content: names, sizes, times."""

    @abstractmethod
    def order(self, order_seed: int, epoch: int) -> Tensor:
        """Return the order of an epoch: a permutation int64 [N] that depends on the arguments alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FileSamples(Samples):
    """Image files below ``root``, named by their paths relative to it."""

    times: NDArray[np.int64]
    """[M], time of the last change [ns]."""

    def name(self, i: int) -> str:
        """Return the path of file ``i``."""
        return str(self._path(i))

    def read(self, i: int) -> bytes:
        """Return the bytes of file ``i``."""
        try:
            return self._path(i).read_bytes()
        except OSError as error:
            raise unreadable(self.name(i), error) from error

    def stamps(self) -> Iterator[bytes]:
        """Yield name, size and time of each file."""
        for row in self.rows.tolist():
            yield b"\0" + os.fsencode(self.names[row]) + f"\0{self.sizes[row]}\0{self.times[row]}".encode()

    def order(self, order_seed: int, epoch: int) -> Tensor:
        """Return ``epoch_order``: any file may be read at any time."""
        return epoch_order(len(self), order_seed, epoch)

    def _path(self, i: int) -> Path:
        return self.root / self.names[int(self.rows[i])]


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardSamples(Samples):
    """Members of uncompressed tar files below ``root``, named as in the tar file."""

    shards: tuple[str, ...]
    """Paths of the shards relative to root."""
    files: tuple[str, ...]
    """Paths of the tar files relative to root: the shards, or their uncompressed copies."""
    shard_stamps: tuple[str, ...]
    """Size and time of each tar file."""
    shard: NDArray[np.int32]
    """[M], number of each sample's shard."""
    offsets: NDArray[np.int64]
    """[M], position of its image in the shard [bytes]."""

    def name(self, i: int) -> str:
        """Return the shard and the member of sample ``i``."""
        row = int(self.rows[i])
        return f"{self.root / self.shards[int(self.shard[row])]}: {self.names[row]}"

    def read(self, i: int) -> bytes:
        """Return the bytes of image ``i``."""
        row = int(self.rows[i])
        wanted = int(self.sizes[row])
        try:
            with self._path(row).open("rb") as file:
                file.seek(int(self.offsets[row]))
                content = file.read(wanted)  # buffered: on a network disk an unbuffered read may return less
        except OSError as error:
            raise unreadable(self.name(i), error) from error
        if len(content) != wanted:
            raise unreadable(self.name(i), OSError("the shard is shorter than it was"))
        return content

    def stamps(self) -> Iterator[bytes]:
        """Yield name, size and time of each shard, and the rows if samples were left out."""
        for shard, stamp in zip(self.shards, self.shard_stamps, strict=True):
            yield b"\0" + os.fsencode(shard) + f"\0{stamp}".encode()
        if len(self.rows) != len(self.sizes):
            yield self.rows.tobytes()

    def order(self, order_seed: int, epoch: int) -> Tensor:
        """Return ``shard_order``: samples of a few shards are read at about the same time."""
        return shard_order(self.shard[self.rows], order_seed, epoch)

    def _path(self, row: int) -> Path:
        return self.root / self.files[int(self.shard[row])]


@dataclass(frozen=True)
class Parts:
    """Samples of a folder, before any is decoded; its texts are printable, whatever strangers call their files."""

    train: Samples
    """Training part."""
    test: Samples
    """Evaluation part."""
    validation: Samples | None
    """Validation part of its own. None: there is none."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the labels."""
    description: str
    """Source of the images, for messages."""
    kind: str
    """Kind of source, with the version of its reader; part of every cache key."""
    notes: tuple[str, ...] = ()
    """Lines on what was passed over."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(printable, self.classes)))
        object.__setattr__(self, "description", printable(self.description))
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))

    @property
    def all(self) -> list[Samples]:
        """The parts in a fixed order: train, val if there is one, test."""
        return [self.train, *([] if self.validation is None else [self.validation]), self.test]

    def names(self, positions: Iterable[int]) -> tuple[str, ...]:
        """Return the printable names of samples, given their positions among all parts together."""
        ends = np.cumsum([len(part) for part in self.all])
        found = []
        for at in positions:
            part = int(np.searchsorted(ends, at, side="right"))
            found.append(printable(self.all[part].name(at - int(ends[part]) + len(self.all[part]))))
        return tuple(found)


@dataclass
class PassedOver:
    """Files that are not read, counted by suffix."""

    counts: dict[str, int] = field(default_factory=dict)
    """Suffix -> number of files."""
    first: dict[str, str] = field(default_factory=dict)
    """Suffix -> the first such file."""

    def add(self, suffix: str, name: str, count: int = 1) -> None:
        """Count a file."""
        self.counts[suffix] = self.counts.get(suffix, 0) + count
        self.first.setdefault(suffix, name)

    def note(self, what: str) -> tuple[str, ...]:
        """Return a line that counts and names the files, or nothing if there are none."""
        if not self.counts:
            return ()
        kinds = sorted(self.counts, key=lambda suffix: (-self.counts[suffix], suffix))
        said = [f"{self.counts[kind]} {kind or 'without a suffix'} ({self.first[kind]})" for kind in kinds]
        more = [f"{len(kinds) - _KINDS_NAMED} other kinds"] if len(kinds) > _KINDS_NAMED else []
        total = sum(self.counts.values())
        return (f"{total} {what} are passed over: {', '.join(said[:_KINDS_NAMED] + more)}",)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading the folder ``path`` in the block into one that names the file.

    Raises:
        TransientError: a file or folder cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise unreadable(str(error.filename or path), error) from error


def unreadable(name: str, error: OSError) -> TransientError:
    """Return the error for a file that was there and cannot be read."""
    reason = error.strerror or str(error)
    return TransientError(f"{name} cannot be read ({reason}); put it back if it was moved or removed, and start again.")


def few(names: Sequence[str]) -> str:
    """Return the first five names for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def val_for_test(evaluation: Sequence[str]) -> list[str]:
    """Return the note that ``val/`` holds the test images, or nothing where there is a ``test/``."""
    return [] if "test" in evaluation else ["there is no test/, so val/ holds the test images"]


def listed_parts(
    parts: Mapping[str, FileSamples | ShardSamples],
    evaluation: Sequence[str],
    classes: tuple[str, ...],
    *,
    checked: Iterable[str],
    description: str,
    kind: str,
    notes: Sequence[str],
) -> Parts:
    """Return the parts of a list or table, with a note on each part in which classes have no image.

    Args:
        parts: samples of train and of each part in ``evaluation``.
        evaluation: val, test or both; the last one holds the test images.
        classes: names of the classes.
        checked: parts that should have images of every class.
        description: where the images came from.
        kind: kind of the source, see ``Parts``.
        notes: what is to be said already.
    """
    found = list(notes)
    for part in checked:
        count = np.bincount(parts[part].labels, minlength=len(classes))
        empty = [classes[label] for label in np.flatnonzero(count == 0)]
        if empty:
            found.append(f"{part} has no image of {len(empty)} of {len(classes)} classes: {few(empty)}")
    return Parts(
        train=parts["train"],
        test=parts[evaluation[-1]],
        validation=parts["val"] if len(evaluation) == 2 else None,
        classes=classes,
        description=description,
        kind=kind,
        notes=(*found, *val_for_test(evaluation)),
    )
