"""Check that every encoded image can be decoded; refuse or leave out, by name, those that cannot."""

import itertools
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from nuat.data import decoding
from nuat.data.cache import cache_key, read_cache, write_cache
from nuat.data.samples import Parts, Samples
from nuat.errors import InputError, TransientError

T = TypeVar("T")

OnBad = Literal["refuse", "skip"]
_CHUNK = 256  # images read ahead, which bounds memory and the wait after an error
_MANY = 1000  # images that take long enough for a bar
_NAMED = 3
KEPT_NAMES = 20
"""Largest number of left-out files that a record names."""


@dataclass(frozen=True)
class Bad:
    """A file that cannot be decoded."""

    position: int
    """Position among the samples."""
    reason: str
    """Sentence that names the file and the fault."""
    unread: bool
    """Whether its bytes could not be read. That says nothing of them, so it is not remembered."""

    @classmethod
    def of(cls, position: int, error: InputError) -> "Bad":
        """Return the record of an error in reading or decoding a sample."""
        return cls(position, str(error), isinstance(error, TransientError))


@dataclass(frozen=True, eq=False)
class Verified:
    """Result of checking N samples."""

    good: NDArray[np.bool_]
    """[N], whether the sample can be decoded."""
    grey: NDArray[np.bool_]
    """[N], whether it is greyscale; false if it cannot be decoded."""
    sums: NDArray[np.uint32]
    """[N], checksum (CRC-32) of its bytes; 0 if they cannot be read."""
    largest: NDArray[np.int32]
    """[N], largest value of a sample of 16 bits per pixel; -1 for others."""
    transparent: NDArray[np.bool_]
    """[N], whether a sample has transparent pixels."""
    several: NDArray[np.bool_]
    """[N], whether a sample holds several frames or pages."""
    bad: tuple[Bad, ...]
    """Samples that cannot be decoded, in order."""

    def take(self, start: int, stop: int) -> "Verified":
        """Return the results of samples ``start`` to ``stop``."""
        bad = tuple(replace(one, position=one.position - start) for one in self.bad if start <= one.position < stop)
        return Verified(
            good=self.good[start:stop],
            grey=self.grey[start:stop],
            sums=self.sums[start:stop],
            largest=self.largest[start:stop],
            transparent=self.transparent[start:stop],
            several=self.several[start:stop],
            bad=bad,
        )


def verify(parts: Parts, cache: Path) -> list[Verified]:
    """Decode every image of every part once and return the results, part by part.

    Results are kept in ``cache/verified``, under a name made from the files' names, sizes and times. Files are checked
    again only if any changed, or if they could not be read.
    """
    key = cache_key(parts.kind, "verified", parts.all)
    path = cache / "verified" / f"{key}.npz"
    n = sum(map(len, parts.all))
    known = _known(path, n)
    found = _look(parts.all, n, known)
    if known is None or found.bad != known.bad:
        write_cache(
            path,
            good=found.good,
            grey=found.grey,
            sums=found.sums,
            largest=found.largest,
            transparent=found.transparent,
            several=found.several,
            reasons=np.array([one.reason for one in found.bad], dtype=np.str_),
            unread=np.array([one.unread for one in found.bad], dtype=np.bool_),
        )
    result, start = [], 0
    for samples in parts.all:
        stop = start + len(samples)
        result.append(found.take(start, stop))
        start = stop
    return result


def bad_names(parts: Parts, bad: Sequence[Bad]) -> tuple[str, ...]:
    """Return the names of bad files, whose positions count all parts together."""
    return parts.names(one.position for one in bad)


def settle(bad: Sequence[Bad], names: Sequence[str], n: int, on_bad: OnBad) -> None:
    """Refuse files that cannot be decoded, or warn that they are left out.

    Files that cannot be read are refused in any case: another process, or the next start, may read them.

    Args:
        bad: the bad ones among ``n`` images.
        names: their names.
        n: number of images that were checked.
        on_bad: whether to refuse or skip them.

    Raises:
        TransientError: some cannot be read, and nothing else is wrong.
        InputError: some cannot be decoded and are refused, or no image is left.
    """
    if not bad:
        return
    unread = [one for one in bad if one.unread]
    if unread and (on_bad == "skip" or len(unread) == len(bad)):
        more = f" And so for {len(unread) - 1} more of {n} images." if len(unread) > 1 else ""
        raise TransientError(f"{unread[0].reason}{more}")
    if on_bad == "refuse":
        more = ""
        if len(bad) > 1:
            others = ", ".join(names[1:_NAMED]) + (", ..." if len(names) > _NAMED else "")
            more = f" And so for {len(bad) - 1} more of {n} images: {others}."
        raise InputError(f"{bad[0].reason}{more} Or give --data.on-bad skip, which leaves out what cannot be decoded.")
    if len(bad) == n:
        raise InputError(f"none of the {n} images can be decoded; the first: {bad[0].reason}")
    told = first_names(names, len(names))
    warnings.warn(f"{len(bad)} of {n} images cannot be decoded and are left out: {told}", RuntimeWarning, stacklevel=2)


def conversion_notes(
    parts: Parts, largest: NDArray[np.int32], transparent: NDArray[np.bool_], several: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Return a line on each conversion of images to one frame of 8 bits without transparency.

    Args:
        parts: the data set.
        largest: [N] of all parts together, see ``Verified``.
        transparent: [N] likewise.
        several: [N] likewise.

    Raises:
        InputError: images of 16 bits per pixel use so little of that range that they would be nearly black.
    """
    deep, notes = np.flatnonzero(largest >= 0), []
    if len(deep):
        most = int(largest.max())
        names = first_names(parts.names(deep[:_NAMED].tolist()), len(deep))
        if most <= decoding.TOO_DARK:
            raise InputError(
                f"{parts.description}: {len(deep)} images have 16 bits per pixel, but no value above {most}, so they "
                f"hold about {most.bit_length()} bits and would be nearly black ({names}); scale their values to "
                "0..65535 and save them again."
            )
        notes.append(f"{len(deep)} images of 16 bits per pixel are scaled to 8 bits: {names}")
    through = np.flatnonzero(transparent)
    if len(through):
        names = first_names(parts.names(through[:_NAMED].tolist()), len(through))
        notes.append(f"{len(through)} images have transparent pixels, which are shown on white: {names}")
    more = np.flatnonzero(several)
    if len(more):
        names = first_names(parts.names(more[:_NAMED].tolist()), len(more))
        notes.append(f"{len(more)} images have several frames or pages, of which the first is taken: {names}")
    return tuple(notes)


def first_names(names: Sequence[str], n: int) -> str:
    """Return the first three of ``n`` names for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if n > _NAMED else "")


def check_classes(parts: Parts, good: NDArray[np.bool_]) -> None:
    """Refuse to leave out every training image of a class; ``good`` [N] marks those that stay.

    Raises:
        InputError: a class has training images, but none that stays.
    """
    classes = len(parts.classes)
    before = np.bincount(parts.train.labels, minlength=classes)
    after = np.bincount(parts.train.labels[good], minlength=classes)
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        raise InputError(
            f"{parts.description}: none of the {before[lost[0]]} training images of class "
            f"{parts.classes[lost[0]]!r} can be decoded; replace them or remove the class."
        )


def each(samples: Sequence[Samples], function: Callable[[Samples, int], T], title: str) -> Iterator[T | InputError]:
    """Yield ``function(part, i)`` of every sample of every part, in order and in parallel.

    With many samples and a terminal, a progress bar is shown. If the function raises an InputError, that error is
    yielded as its result.
    """

    def safely(place: tuple[Samples, int]) -> T | InputError:
        try:
            return function(*place)
        except InputError as error:
            return error

    total = sum(map(len, samples))
    quiet = total < _MANY or not sys.stderr.isatty()
    with (
        Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress,
        ThreadPoolExecutor(cores()) as pool,
    ):
        task = progress.add_task(title, total=total)
        for part in samples:
            for start in range(0, len(part), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(part)))
                yield from pool.map(safely, ((part, i) for i in chunk))
                progress.advance(task, len(chunk))


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _look(samples: list[Samples], n: int, known: Verified | None) -> Verified:
    """Check ``n`` samples; of those that ``known`` covers, only the ones that could not be read."""
    if known is None:
        good, grey, sums = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.uint32)
        largest, transparent = np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.bool_)
        several = np.zeros(n, dtype=np.bool_)
        left, bad = np.arange(n), []
    else:
        good, grey, sums = known.good.copy(), known.grey.copy(), known.sums.copy()
        largest, transparent, several = known.largest.copy(), known.transparent.copy(), known.several.copy()
        left = np.array([one.position for one in known.bad if one.unread], dtype=np.int64)
        bad = [one for one in known.bad if not one.unread]
    parts, start = [], 0
    for part in samples:
        parts.append(part.take(left[(left >= start) & (left < start + len(part))] - start))
        start += len(part)
    for position, found in zip(left.tolist(), each(parts, _checked, "Checking images"), strict=True):
        good[position] = not isinstance(found, InputError)
        if isinstance(found, InputError):
            bad.append(Bad.of(position, found))
        else:
            sums[position], grey[position], conversion = found
            largest[position], transparent[position] = conversion.largest, conversion.transparent
            several[position] = conversion.several
    return Verified(good, grey, sums, largest, transparent, several, tuple(sorted(bad, key=lambda one: one.position)))


def _checked(samples: Samples, i: int) -> tuple[int, bool, decoding.Conversion]:
    """Return the checksum of a sample's bytes, whether it is greyscale, and how it is converted."""
    content = samples.read(i)
    grey, conversion = decoding.check(content, samples.name(i))
    return zlib.crc32(content), grey, conversion


def _known(path: Path, n: int) -> Verified | None:
    """Return what the cache holds, or None if it has no whole file for these ``n`` samples."""
    kept = read_cache(path)
    names = ("good", "grey", "sums", "largest", "transparent", "several")
    if kept is None or not kept.keys() >= {*names, "reasons", "unread"}:
        return None
    places, reasons, unread = np.flatnonzero(~kept["good"]), kept["reasons"], kept["unread"]
    if any(len(kept[name]) != n for name in names) or not len(places) == len(reasons) == len(unread):
        return None
    bad = zip(places.tolist(), reasons.tolist(), unread.tolist(), strict=True)
    return Verified(**{name: kept[name] for name in names}, bad=tuple(itertools.starmap(Bad, bad)))
