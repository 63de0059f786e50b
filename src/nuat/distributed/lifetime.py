"""When one of several processes ends, and why: with its launcher, or for good, so that no restart is worth while.

Nothing here imports torch, so that a signal that comes while torch is imported ends a process in one line.
"""

import os
import signal
import threading
import time
from pathlib import Path

FINAL = "NUAT_FINAL"
"""Environment variable with the path of a file that tells restarted processes that the run is over."""
LAUNCHER = "NUAT_LAUNCHER"
"""Environment variable with the id of the process that started the others."""
_WATCH_SECONDS = 0.5
"""Seconds between two looks at the launcher."""
MEANT = (2, 128 + 2, 128 + 15)
"""Exit codes that no restart mends: the user's mistake (but not a ``TransientError``), Ctrl-C and SIGTERM."""


def final_code() -> int | None:
    """Return the exit code of a run of several processes that is over; None: it goes on."""
    path = os.environ.get(FINAL)
    if path is None or not Path(path).is_file():
        return None
    return int(Path(path).read_text() or 1)


def ended(*, within: float) -> bool:
    """Return whether a process of the run notes its end within some seconds; always true under torchrun."""
    limit = time.monotonic() + within
    while (code := final_code()) is None and os.environ.get(FINAL) and time.monotonic() < limit:
        time.sleep(0.05)
    return code is not None or not os.environ.get(FINAL)


def note_end(code: int) -> None:
    """Note that this process ended with ``code``, for processes that are restarted."""
    path = os.environ.get(FINAL)
    if path is not None and code in MEANT:
        Path(path).write_text(str(code))


def end_with_launcher() -> None:
    """End this process when its launcher ends, even by SIGKILL; otherwise its training would go on unattended."""
    if "TORCHELASTIC_RUN_ID" in os.environ and hasattr(os, "getppid"):
        launcher = int(os.environ.get(LAUNCHER) or os.getppid())
        threading.Thread(target=_watch, args=(launcher,), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_WATCH_SECONDS)
    os._exit(128 + signal.SIGKILL)  # as if killed itself: the run goes on from its last checkpoint
