"""Target of an export: free, writable, and written whole or not at all."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nuat.errors import InputError
from nuat.files import check_writable


def check_free(target: Path, *, folder: bool) -> None:
    """Refuse a target that exists or cannot be written, before any work.

    Args:
        target: file or folder to write.
        folder: whether it is a folder. An empty folder may exist already.

    Raises:
        InputError: the target exists or cannot be written.
    """
    try:
        _check_free(target, folder=folder)
    except OSError as error:  # a name too long, a folder without permission
        raise InputError(f"--out {target}: cannot be written ({error.strerror}); choose another --out.") from None


def _check_free(target: Path, *, folder: bool) -> None:
    if folder and target.is_dir():
        if any(target.iterdir()):
            raise InputError(f"--out {target}: exists and is not empty; remove it or choose another --out.")
    elif target.is_dir():
        raise InputError(f"--out {target}: is a folder; give the name of a file.")
    elif target.exists() or target.is_symlink():
        raise InputError(f"--out {target}: exists; remove it or choose another --out.")
    check_writable(target.parent, "--out")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a path for a file or folder that becomes ``target`` when the block ends without an error.

    Until then it lies in a hidden folder next to ``target``. On any error (a failed check, a full disk, Ctrl-C) that
    folder and the parents made for it are removed.
    """
    made = [parent for parent in target.absolute().parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as hidden:
            path = Path(hidden) / target.name
            yield path
            if target.is_dir():
                target.rmdir()  # an empty one, see check_free
            path.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise
