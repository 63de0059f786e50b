"""Write a run's large files in a thread, from copies, while training goes on.

The files are written one after the other, each whole. After a failure nothing more is written: a checkpoint that speaks
of weights which did not get to the disk must not replace an older one that is right.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

_MOST_WAITING = 3
"""Files that may wait, each with a copy in memory: the best weights, the last weights and a checkpoint."""


class Writer:
    """Thread that writes files. A failure is raised in the training thread, at the next call."""

    def __init__(self, device: torch.device, check_place: Callable[[], None]) -> None:
        """Take the device of the tensors that are written, and what raises an error if the place for them is gone."""
        self._device, self._check_place = device, check_place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nuat-writer")
        self._waiting: deque[Future[None]] = deque()
        self._failure: BaseException | None = None

    def write(self, save: Callable[[Any], None], values: Any) -> None:
        """Call ``save`` on a copy of ``values``, nested data, in the thread.

        If too many files wait, wait for the first: the disk is slower than the run.

        Raises:
            BaseException: the failure of an earlier call.
        """
        self.check()
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        copy = copied(values)
        ready: Any = torch.cuda.Event() if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if ready is not None:
            ready.record(torch.cuda.current_stream(self._device))
        self._waiting.append(self._thread.submit(self._save, save, copy, ready))

    def check(self) -> None:
        """Raise the failure of an earlier call, if one has failed by now."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            BaseException: the failure of an earlier call.
        """
        while self._waiting:
            self._waiting.popleft().result()
        self.check()

    def close(self) -> None:
        """Wait until everything is written, and end the thread; a failure is not raised."""
        self._thread.shutdown()

    def _save(self, save: Callable[[Any], None], values: Any, ready: torch.cuda.Event | None) -> None:
        if self._failure is not None:
            return
        try:
            self._check_place()
            if ready is None:
                save(values)
            else:  # on a stream of its own, so that the copy to the host does not hold up the steps
                stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
                stream.wait_event(ready)
                with torch.cuda.stream(stream):
                    save(values)
        except BaseException as error:  # whatever it is, it is raised in the training thread
            self._failure = error


def copied(values: Any) -> Any:
    """Return nested dictionaries and sequences with copies of their tensors, on the same device."""
    if isinstance(values, Tensor):
        return values.detach().clone()
    if isinstance(values, Mapping):
        return {name: copied(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(copied(value) for value in values)
    return values
