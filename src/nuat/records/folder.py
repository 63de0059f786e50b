"""The files of a run."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nuat.config import TrainConfig
from nuat.errors import InputError
from nuat.records.environment import now
from nuat.records.json_values import check, parse_object
from nuat.records.settings import check_same_config
from nuat.records.shapes import METRICS_LINES

_LOCK_SECONDS = 1.0
"""Seconds to wait for the lock, in which a process that is being ended gives it up."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.split = path / "split.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.evaluation = path / "evaluation.json"
        self.evaluation_state = path / "evaluation.partial.json"
        self.curves = path / "curves.png"
        self.examples = path / "examples.png"
        self.tensorboard = path / "tensorboard"
        self.lock = path / ".lock"

    def check_new(self) -> None:
        """Refuse a file, and a folder that is not empty.

        Raises:
            InputError: it is not free for a new run.
        """
        try:
            if self.path.exists() and any(file != self.lock for file in self.path.iterdir()):
                go_on = f", or continue it with --resume {self.path}" if self.checkpoint.is_file() else ""
                raise InputError(f"{self.path}: exists and is not empty. Choose another --out{go_on}.")
        except NotADirectoryError:
            raise InputError(f"{self.path}: is a file, not a folder; choose another --out.") from None
        except PermissionError:
            raise InputError(f"{self.path}: no permission to read it; choose another --out.") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to this folder during the block; a killed process keeps nobody out.

        Raises:
            InputError: another process writes to it, it is gone, or this user may not write to it.
        """
        if not self.path.is_dir():  # the lock would make it anew
            raise self.gone()
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=_LOCK_SECONDS, poll_interval=0.1)
        except Timeout:
            raise InputError(
                f"{self.path}: another process is writing to this folder; wait until it ends, or end it."
            ) from None
        except OSError as error:
            if not self.path.is_dir():
                raise self.gone() from None
            raise InputError(
                f"{self.path}: cannot be written to ({error.strerror}), so no run can go on there; change its "
                "permissions, or copy it to another folder."
            ) from None
        try:
            yield
        finally:
            self.lock.unlink(missing_ok=True)  # while it is held, so that nobody's but ours goes
            lock.release()

    def check_there(self) -> None:
        """Refuse to write to a folder that was removed, or that has lost its settings.

        Raises:
            InputError: it is gone.
        """
        if not self.config.is_file():
            raise self.gone()

    def gone(self) -> InputError:
        """Return the error of a folder that was removed."""
        return InputError(
            f"{self.path}: was removed or moved while a run was writing to it; start again, with another --out."
        )

    def clear_cut_off(self) -> None:
        """Remove the parts of files that a process was writing when it was killed."""
        names = [file.name for file in vars(self).values()]
        for part in self.path.glob(".*.tmp"):
            if any(part.name.startswith(f".{name}.") for name in names):
                part.unlink(missing_ok=True)

    def clear_start(self, config: TrainConfig) -> None:
        """Remove what a run of ``config`` that ended before its first checkpoint left, so that it can start once more.

        What a run of other settings left stays, and the record of one that came to an end and whose checkpoint was not
        kept.
        """
        if not self.path.is_dir():
            return
        with self.locked():
            self._clear_start(config)

    def _clear_start(self, config: TrainConfig) -> None:
        self.clear_cut_off()
        if not self.config.is_file() or self.checkpoint.is_file() or self._ended():
            return
        if self.config.stat().st_size:  # an empty one is of a start that got no further
            check_same_config(self.config, config)
        for file in (self.config, self.environment, self.split, self.metrics, self.best, self.last):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def _ended(self) -> bool:
        """Return whether a run came to its end here, or an alarm to its; what cannot be read is taken for one."""
        if self.evaluation.is_file():
            return True
        try:
            lines = self.read_metrics()
            return any(line.get("kind") == "end" or line.get("stop") is True for line in lines)
        except InputError:
            return True

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self.path}: is a file or lies below one; choose another --out.") from None
        except PermissionError:
            raise InputError(f"{self.path}: no permission to write there; choose another --out.") from None

    def append(self, record: dict[str, Any]) -> int:
        """Add a line to the metrics, whole, and return the file's size [bytes] after it."""
        line = (json.dumps(_finite({"time": now(), **record}), allow_nan=False) + "\n").encode()
        before = self.metrics.stat().st_size if self.metrics.is_file() else 0
        try:
            with self.metrics.open("ab") as file:
                file.write(line)
        except OSError:
            # only now: a file that is still open would write the rest of its buffer when it is closed
            if self.metrics.is_file():
                os.truncate(self.metrics, before)
            raise
        return before + len(line)

    def truncate_metrics(self, size: int) -> None:
        """Drop the lines past ``size`` [bytes]: those of steps that are about to be done again."""
        if self.metrics.is_file() and self.metrics.stat().st_size > size:
            os.truncate(self.metrics, size)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of the metrics, checked; a half line at the end, of a run that was cut off, is left out.

        Raises:
            InputError: the file is damaged, or may not be read.
        """
        if not self.metrics.is_file():
            return []
        try:
            *texts, _ = self.metrics.read_text(encoding="utf-8").split("\n")  # after the last line end is half a line
        except UnicodeDecodeError:
            raise InputError(f"{self.metrics}: not UTF-8 text.") from None
        except OSError as error:
            raise InputError(f"{self.metrics}: cannot be read ({error.strerror}).") from None
        lines = [parse_object(text, f"{self.metrics}: line {i}") for i, text in enumerate(texts, 1)]
        for i, line in enumerate(lines, 1):
            where = f"{self.metrics}: line {i}"
            check(METRICS_LINES.get(check(str, line.get("kind"), f"{where}: kind"), dict), line, where)
        return lines


def _finite(value: Any) -> Any:
    """Return JSON values with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
