"""The curves of a run as TensorBoard events."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any


class Curves:
    """Write every number of an epoch's record as a scalar, named by its place in the record.

    Events are written at once rather than by SummaryWriter's thread, so that a full disk raises here.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        # half a second to import, so only where a run trains
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._records = RecordWriter(self._file)
        self._event = Event
        self._write(file_version="brain.Event:2")
        if first_epoch:  # hides events of epochs that are done again after a resume; records count epochs from 1
            self._write(step=first_epoch + 1, session_log=SessionLog(status=SessionLog.START))
        self._file.flush()

    def add(self, record: dict[str, Any]) -> None:
        """Write the numbers of an epoch's record."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        for name, value in _numbers(record):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            self._write(step=record["epoch"], summary=summary)
        self._file.flush()

    def close(self) -> None:
        """Close the file; what a full disk refused has been raised by ``add``."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write(self, **values: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **values).SerializeToString())


def _numbers(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
