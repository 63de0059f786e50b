"""Starting one process a device on this machine, as torchrun does, by torch's elastic agent.

``torchrun --nproc-per-node N -m nuat train ...`` does the same from outside, also over several machines.
"""

import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nuat.distributed.world import check_gpus, launched, timeout_seconds
from nuat.errors import InputError


def check(devices: int, restarts: int, device: str) -> None:
    """Refuse a number of processes that cannot be started here.

    Raises:
        InputError: it is below 1, there are fewer GPUs, or the processes have been started already.
    """
    if devices < 1:
        raise InputError(f"devices={devices}: expected at least 1.")
    if restarts < 0:
        raise InputError(f"restarts={restarts}: expected at least 0.")
    if launched():
        raise InputError(
            f"devices={devices} has no effect under torchrun, whose --nproc-per-node says how many; leave it out."
        )
    if restarts and devices == 1:
        raise InputError(f"restarts={restarts} has no effect with one device; leave it out or give --devices.")
    check_gpus(device, devices)
    timeout_seconds()


_FINAL = "NUAT_FINAL"
"""Names the file that tells processes which are started again that there is nothing to be gained by it."""
_MEANT = (2, 128 + 2, 128 + 15)
"""Exit codes that no restart mends: the user's mistake (but not a ``TransientError``), Ctrl-C and SIGTERM."""


def final_code() -> int | None:
    """Return the exit code that a run of several processes has ended with for good; none where it goes on."""
    path = os.environ.get(_FINAL)
    if path is None or not Path(path).is_file():
        return None
    return int(Path(path).read_text() or 1)


def ended(*, within: float) -> bool:
    """Return whether a process of the run notes its end within some seconds; true where none can tell (torchrun)."""
    limit = time.monotonic() + within
    while (code := final_code()) is None and os.environ.get(_FINAL) and time.monotonic() < limit:
        time.sleep(0.05)
    return code is not None or not os.environ.get(_FINAL)


def note_end(code: int) -> None:
    """Note that this process ended with ``code``, for the processes that are started in its place."""
    path = os.environ.get(_FINAL)
    if path is not None and code in _MEANT:
        Path(path).write_text(str(code))


def launch(arguments: Sequence[str], devices: int, restarts: int) -> int:
    """Run ``nuat`` with ``arguments`` in ``devices`` processes; return the exit code of the first that failed, or 0.

    Args:
        arguments: of the command line, without --devices.
        devices: how many processes, one a GPU, or sharing the processor's cores.
        restarts: how often all are started again when one dies; they go on from the run's checkpoint.
    """
    for name in logging.root.manager.loggerDict:  # their words on a process that failed: it has said more itself
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    before = dict(os.environ)
    # each process its share of the cores, where the user has not said otherwise
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.2,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="nuat-") as folder:
            os.environ[_FINAL] = str(Path(folder) / "final")
            elastic_launch(config, sys.executable)("-m", "nuat", *arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        # a process that heard of another's end tells nothing new
        first = next((code for code in codes if code in _MEANT), codes[0] if codes else 1)
        return 128 - first if first < 0 else first
    except SignalException as error:
        return 128 + int(error.sigval)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return 0
