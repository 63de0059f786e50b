"""One table of encoded images and their classes: a Parquet file, or an Arrow file of Hugging Face's ``datasets``."""

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuat.data.cache import read_cache, write_cache
from nuat.data.samples import few
from nuat.errors import InputError, printable
from nuat.files import atomic_write

_VERSION = "1"  # part of the names of the copies: raise it when what they hold changes
_IMAGES = ("image", "img", "images", "picture", "photo")
_LABELS = ("label", "labels", "class", "class_name", "category", "target", "y")
_ROWS = 64  # rows read at once, which bounds memory
_SHOWN = 20  # characters of a wrong value that an error shows


@dataclass(frozen=True)
class _Columns:
    """Columns of a table that are read."""

    image: str
    """Encoded images: bytes, or a structure of bytes and path."""
    label: str
    """Classes."""
    classes: tuple[str, ...] | None
    """Names of the classes, by number. None: the table does not say."""


@dataclass(frozen=True, eq=False)
class Table:
    """Images of a table, copied to the cache."""

    copy: Path
    """All encoded images, one after the other."""
    sizes: NDArray[np.int64]
    """[N], size of each [bytes]."""
    labels: NDArray[Any]
    """[N], integers or texts."""
    digests: NDArray[np.str_]
    """[N], digest of each image."""
    classes: tuple[str, ...] | None
    """See ``_Columns``."""


def packages(path: Path) -> ModuleType:
    """Return pyarrow; if it is missing, say how to install it."""
    try:
        for name in ("pyarrow.ipc", "pyarrow.parquet"):
            importlib.import_module(name)
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise InputError(
            f"{path} holds Parquet or Arrow files, which need {error.name or error}; install it with: pip install "
            "'nuat[parquet]'"
        ) from None


def copied(file: Path, folder: Path, arrow: ModuleType) -> Table:
    """Return the images of a table, copied on the first call.

    Args:
        file: a Parquet file, or an Arrow file as ``save_to_disk`` writes it.
        folder: folder of the copies.
        arrow: what ``packages`` returns.

    Raises:
        InputError: the file is damaged or has other columns, a row lacks its image or class, or the copy cannot be
            written.
    """
    status = file.stat()
    stamp = f"{_VERSION}:{file.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    key = hashlib.sha256(os.fsencode(stamp)).hexdigest()[:32]
    copy, index = (folder / f"{key}.bin").absolute(), folder / f"{key}.npz"
    try:
        schema, batches = _opened(file, arrow)
        columns = _columns(file, schema)
        known = _known(index, copy)
        if known is not None:
            return Table(copy, known["sizes"], known["labels"], known["digests"], columns.classes)
        sizes, labels, digests = [], [], []
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as target:
            for number, image, label in _rows(file, batches, columns):
                target.write(image)
                sizes.append(len(image))
                labels.append(_label(f"{file}, row {number}", label, columns.classes))
                digests.append(hashlib.sha256(image).hexdigest()[:32])
    except (OSError, ValueError, KeyError, MemoryError, arrow.ArrowException) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file} cannot be read as a table, or not be copied to {folder} ({reason}).") from error
    if not sizes:
        raise InputError(f"{file} has no rows; write it again, or remove it.")
    table = Table(copy, np.array(sizes, dtype=np.int64), np.array(labels), np.array(digests), columns.classes)
    write_cache(index, sizes=table.sizes, labels=table.labels, digests=table.digests)
    return table


def _known(index: Path, copy: Path) -> dict[str, NDArray[Any]] | None:
    """Return what the cache holds of a table, or None if it has no whole copy."""
    known = read_cache(index)
    if known is None or known.keys() != {"sizes", "labels", "digests"} or not copy.is_file():
        return None
    return known if copy.stat().st_size == int(known["sizes"].sum()) else None


def _opened(file: Path, arrow: ModuleType) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a table, and its batches of rows."""
    if file.suffix.lower() == ".parquet":
        parquet = arrow.parquet.ParquetFile(file)
        return parquet.schema_arrow, parquet.iter_batches(batch_size=_ROWS)
    stream = arrow.ipc.open_stream(arrow.memory_map(str(file)))
    return stream.schema, iter(stream)


def _columns(file: Path, schema: Any) -> _Columns:
    """Return the columns that a schema names as image and class, or those that are called so."""
    features: Any = {}
    with contextlib.suppress(KeyError, TypeError):  # not written by datasets
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    typed: dict[str, list[str]] = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        if isinstance(feature, dict) and name in schema.names:
            typed.setdefault(str(feature.get("_type")), []).append(name)
    found = []
    for kind, usual, what in (("Image", _IMAGES, "images"), ("ClassLabel", _LABELS, "classes")):
        named = typed.get(kind) or [name for name in usual if name in schema.names][:1]
        chosen = [name for name in usual if name in named] if len(named) > 1 else named
        if len(chosen) != 1:
            several = f"several columns of {what} ({few(named)})" if named else f"no column of {what}"
            raise InputError(
                f"{file} has {several}; keep one, called {usual[0]}. Its columns: {printable(few(schema.names))}."
            )
        found.append(chosen[0])
    names = features[found[1]].get("names") if found[1] in typed.get("ClassLabel", ()) else None
    if names is not None and not (isinstance(names, list) and len(set(map(str, names))) == len(names) > 0):
        raise InputError(f"{file}: the names of its classes are no list of different names; write it again.")
    return _Columns(found[0], found[1], None if names is None else tuple(map(str, names)))


def _rows(file: Path, batches: Iterator[Any], columns: _Columns) -> Iterator[tuple[int, bytes, Any]]:
    """Yield the number from 0, the encoded image and the class of each row."""
    number = 0
    for batch in batches:
        for start in range(0, len(batch), _ROWS):
            part = batch.slice(start, _ROWS)
            images, labels = (
                part.column(part.schema.get_field_index(name)).to_pylist() for name in (columns.image, columns.label)
            )
            for image, label in zip(images, labels, strict=True):
                content = image.get("bytes") if isinstance(image, dict) else image
                if not isinstance(content, bytes) or not content:
                    link = image.get("path") if isinstance(image, dict) else None
                    raise InputError(
                        f"{file}, row {number}: {columns.image} holds no encoded image"
                        + (f" but the path {str(link)!r}" if link else "")
                        + "; save the images in the table (datasets does so for the feature Image)."
                    )
                yield number, content, label
                number += 1


def _label(where: str, label: Any, classes: tuple[str, ...] | None) -> int | str:
    """Return a class as a number or a text."""
    text = isinstance(label, str) and bool(label.strip())
    if label is None or label == -1 or not (text or isinstance(label, int)):
        told = repr(label)[:_SHOWN]
        raise InputError(f"{where}: {told} is no class; write its number or name, or leave the row out.")
    if classes is None:
        return label.strip() if text else int(label)
    if text and label in classes:
        return classes.index(label)
    if text or not 0 <= int(label) < len(classes):
        told = repr(label)[:_SHOWN]
        raise InputError(f"{where}: {told} is none of the {len(classes)} classes; correct it.")
    return int(label)
