"""Stop a run on Ctrl-C or SIGTERM: finish the step, save the state, leave."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has saved its state."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@contextlib.contextmanager
def resumable(state: Path | None, again: str) -> Iterator[None]:
    """Say, if the block is interrupted, where finished batches are kept and which command goes on.

    Args:
        state: file of finished batches. None: nothing is kept.
        again: command that resumes.

    Raises:
        Interrupted: the block was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = "nothing is kept" if state is None else f"finished batches are kept in {state}"
        raise Interrupted(signal.SIGINT, f"stopped; {kept}. Continue with: {again}") from None


class StopRequest:
    """Note the first SIGINT or SIGTERM while it is entered, for the loop to see; a second one interrupts at once.

    Only the main thread can handle signals; in another thread nothing is noted.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
