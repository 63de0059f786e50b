"""Files in the cache folder that spare decoding or indexing the same images again."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuat.data.npz import UNREADABLE
from nuat.data.samples import Samples
from nuat.files import atomic_write


def cache_key(kind: str, settings: str, parts: Sequence[Samples]) -> str:
    """Return a name for what ``settings`` make of all samples of a source of this ``kind``."""
    key = hashlib.sha256(f"{kind} {settings} {parts[0].root.resolve()}".encode(errors="surrogateescape"))
    for samples in parts:
        for stamp in samples.stamps():
            key.update(stamp)
    return key.hexdigest()[:32]


def read_cache(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays that ``write_cache`` kept, or None where there is no whole file of them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (*UNREADABLE, AttributeError):  # the last: a file that is no .npz loads as a bare array
        return None


def write_cache(path: Path, **arrays: NDArray[Any]) -> None:
    """Keep arrays in a file. A failure is only a warning: the next start does the work again."""
    try:
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(f"what was read could not be kept in {path.parent} ({error})", RuntimeWarning, stacklevel=2)
