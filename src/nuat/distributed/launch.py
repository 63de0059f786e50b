"""Start one process per device on this machine, by torch's elastic agent.

``torchrun --nproc-per-node N -m nuat train ...`` does the same from outside, also on several machines.
"""

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nuat import own_code
from nuat.distributed.lifetime import FINAL, LAUNCHER, MEANT
from nuat.distributed.world import check_gpus, launched, timeout_seconds
from nuat.errors import InputError


def check(devices: int, restarts: int, device: str) -> None:
    """Refuse a number of processes that cannot be started here.

    Raises:
        InputError: the number is below 1, there are fewer GPUs, or the processes have been started already.
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


def launch(arguments: Sequence[str], devices: int, restarts: int) -> int:
    """Run ``nuat`` in several processes; return the exit code of the first that failed, or 0.

    Args:
        arguments: arguments of the command line, without --devices.
        devices: number of processes, one per GPU, or sharing the processor's cores.
        restarts: how often all are restarted when one dies; they go on from the run's checkpoint.
    """
    for name in logging.root.manager.loggerDict:  # silent about a process that failed: it has said more itself
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    before = dict(os.environ)
    # each process takes its share of the cores, unless the user has said otherwise
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
            os.environ[FINAL] = str(Path(folder) / "final")
            os.environ[LAUNCHER] = str(os.getpid())
            elastic_launch(config, sys.executable)("-m", "nuat", *arguments, *own_code.given())
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        # a process that ended because of another tells nothing new
        first = next((code for code in codes if code in MEANT), codes[0] if codes else 1)
        return 128 - first if first < 0 else first
    except SignalException as error:
        return 128 + int(error.sigval)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return 0
