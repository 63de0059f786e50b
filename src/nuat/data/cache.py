"""Files in the cache folder that save decoding, indexing or uncompressing the same files again."""

import gzip
import hashlib
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuat.data.npz import UNREADABLE
from nuat.data.samples import Samples
from nuat.errors import InputError
from nuat.files import atomic_write

_BLOCK = 2**20
"""Bytes uncompressed at once."""
_SMALL = 2**26
"""Bytes that any .gz file may hold: small tar files are mostly zeros."""
_MOST_EXPANSION = 100
"""Largest size of the content of a .gz file in units of its own; gzip allows about 1,000."""


def cache_key(kind: str, settings: str, parts: Sequence[Samples]) -> str:
    """Return a name for what ``settings`` make of all samples of a source of this ``kind``."""
    key = hashlib.sha256(f"{kind} {settings} {parts[0].root.resolve()}".encode(errors="surrogateescape"))
    for samples in parts:
        for stamp in samples.stamps():
            key.update(stamp)
    return key.hexdigest()[:32]


def read_cache(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays that ``write_cache`` kept, or None if there is no whole file of them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (*UNREADABLE, AttributeError):  # the last: a file that is no .npz loads as a bare array
        return None


def write_cache(path: Path, **arrays: NDArray[Any]) -> None:
    """Keep arrays in a file. A failure is only a warning: the next start does the work again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(f"what was read could not be kept in {path.parent} ({error})", RuntimeWarning, stacklevel=2)


def uncompressed(source: Path, stamp: str, folder: Path) -> Path:
    """Return the uncompressed copy of a .gz file, made on the first call.

    Args:
        source: the file.
        stamp: text that changes when the file does.
        folder: folder of the copy.

    Raises:
        InputError: the file is damaged, its content is far larger than the file, or the copy cannot be written.
    """
    key = hashlib.sha256(os.fsencode(f"{source.resolve()}:{stamp}")).hexdigest()[:32]
    copy = (folder / f"{key}.tar").absolute()
    if copy.is_file():
        return copy
    most = max(_SMALL, _MOST_EXPANSION * source.stat().st_size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with gzip.open(source) as compressed, atomic_write(copy) as file:
            while block := compressed.read(_BLOCK):
                if file.tell() + len(block) > most:
                    raise InputError(
                        f"{source} holds more than {most:,} bytes, over {_MOST_EXPANSION} times its own size, as no "
                        "images do; uncompress it yourself if you trust it."
                    )
                file.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source} is cut short or damaged ({error}); copy it again.") from error
    except OSError as error:
        raise InputError(
            f"{source} could not be uncompressed into {folder} ({error.strerror or error}); free some space, give "
            "another --data.cache, or uncompress it yourself."
        ) from error
    return copy
