"""Write files whole: a reader sees the old file or the new one, never a part of either."""

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nuat.errors import InputError

_NUMBERS = re.compile(r"\[\n\s*([^\[\]{}\"]*?)\s*\n\s*\]")
"""Text of a list of numbers over several lines; no text within JSON holds a line break."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is renamed. On any
    error (no space left, Ctrl-C) the temporary file is removed and ``path`` stays. The folder must exist: one that was
    removed meanwhile is not made anew.
    """
    # not by tempfile, whose files only their owner can read: results follow the umask
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        file = temporary.open("xb")
    except OSError as error:
        error.filename = str(path)  # the name that people know
        raise
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def writable(folder: Path) -> bool:
    """Return whether there is a folder and files can be written in it."""
    return os.access(folder, os.W_OK | os.X_OK)


def check_writable(folder: Path, option: str) -> None:
    """Refuse a folder in which no file can be written; it may be missing if it can be made.

    Args:
        folder: where files are to be written.
        option: what asked for it, such as --out, for the message.

    Raises:
        InputError: it or the nearest folder above it is a file, or may not be written or looked into.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise InputError(f"{option} {folder}: {there.name} is a file, not a folder; choose another {option}.")
        if not writable(there):
            raise InputError(f"{option} {folder}: nothing can be written in {there}; choose another {option}.")
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise InputError(f"{option} {folder}: cannot be written ({error.strerror}); choose another {option}.") from None


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, values: Any, *, allow_nan: bool = True) -> None:
    """Write ``values`` as JSON to ``path``, whole, each list of numbers on one line.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from nuat.files import write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "a.json"), {"name": "a", "found": [1, 0.5]})
        ...     print(Path(folder, "a.json").read_text(encoding="utf-8"), end="")
        {
         "name": "a",
         "found": [1, 0.5]
        }

    Raises:
        ValueError: a number is infinite or NaN, and ``allow_nan`` is False.
    """
    text = json.dumps(values, indent=1, allow_nan=allow_nan)
    write_text(path, _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n")


def no_space_left(error: OSError) -> bool:
    """Return whether an error says that a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def not_writable(error: OSError) -> bool:
    """Return whether an error says that a place may not be written, or is gone."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
