"""Every test starts from the same global seed on one thread; hypothesis draws the same few examples each time."""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, and for the processes that tests start

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "nuat",
    deadline=None,  # no test asserts on time
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nuat")

torch.set_num_threads(1)  # tiny work: on a busy machine more threads only wait for each other
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background, and what it starts, ignores it


def pytest_collection_finish() -> None:
    """Leave what is imported by now to no later collection of garbage."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
