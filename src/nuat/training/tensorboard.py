"""A run as TensorBoard events: settings, numbers of every epoch, pictures and results."""

import contextlib
import io
import os
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from PIL import Image

from nuat.records.folder import RunFolder
from nuat.training.trackers import Picture, TrackedRun


class TensorBoard:
    """Tracker that writes events to tensorboard/ in the folder of the run.

    Events are written at once rather than by SummaryWriter's thread, so that a full disk raises here.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._records: Any = None
        self._ended: Any = None
        self._epoch = 0

    def start(self, run: TrackedRun) -> None:
        """Open a file of events, and write the settings as hyperparameters."""
        # half a second to import, so only where a run trains
        from tensorboard.compat.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
        from torch.utils.tensorboard.summary import hparams

        folder = RunFolder(run.folder).tensorboard
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._records, self._epoch = RecordWriter(self._file), run.epoch
        attacks = [*run.settings.get("evaluation.attacks", ()), "worst-case"]
        columns = dict.fromkeys(["final/best_validation", *(f"test/{attack}" for attack in attacks)], 0.0)
        settings = {name: v if isinstance(v, bool | int | float) else str(v) for name, v in run.settings.items()}
        experiment, begun, self._ended = hparams({"recipe": run.recipe, **settings}, columns)  # type: ignore[no-untyped-call]
        events: list[dict[str, Any]] = [{"file_version": "brain.Event:2"}]
        if run.epoch:  # hides events of epochs that are done again after a resume; records count epochs from 1
            events.append({"step": run.epoch + 1, "session_log": SessionLog(status=SessionLog.START)})
        self._write([*events, {"summary": experiment}, {"summary": begun}])

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the numbers of an epoch as scalars."""
        self._epoch = epoch
        self._write(self._scalars(metrics))

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Write the results and pictures at the last epoch, and close the file."""
        events = [*self._scalars(results), *(self._picture(name, pixels) for name, pixels in pictures.items())]
        self._write([*events, {"summary": self._ended}] if results else events)
        self._close()

    def _scalars(self, values: Mapping[str, float]) -> Iterable[dict[str, Any]]:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        for name, value in values.items():
            yield {"step": self._epoch, "summary": Summary(value=[Summary.Value(tag=name, simple_value=value)])}

    def _picture(self, name: str, pixels: Picture) -> dict[str, Any]:
        from tensorboard.compat.proto.summary_pb2 import Summary

        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        height, width, colours = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=encoded.getvalue())
        return {"step": self._epoch, "summary": Summary(value=[Summary.Value(tag=name, image=image)])}

    def _write(self, events: Iterable[Mapping[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._file is not None
        try:
            for event in events:
                self._records.write(Event(wall_time=time.time(), **event).SerializeToString())
            self._file.flush()
        except OSError:
            self._close()
            raise

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk refused has been raised by _write
                self._file.close()
