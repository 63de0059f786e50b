"""Threads of a process beside busy ones: how many there are, and how they wait."""

import subprocess
import sys

import pytest

from nuat.cli import main
from nuat.distributed import threads
from nuat.distributed.threads import Usage, free_cores, threads_for_training

CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)


def later(busy: float, own: float, clock: float = 4.0, cores: int = 4) -> tuple[Usage, Usage]:
    began = Usage(cores=cores, clock=100.0, busy=50.0, own=1.0)
    return began, Usage(cores=cores, clock=100.0 + clock, busy=50.0 + busy, own=1.0 + own)


@pytest.mark.parametrize(
    ("others", "own", "free"),
    [(0.0, 4.0, 4), (0.2, 4.0, 4), (4.0, 4.0, 3), (8.0, 4.0, 2), (16.0, 0.0, 1), (40.0, 0.0, 1), (-1.0, 4.0, 4)],
)
def test_what_others_use_is_not_free(others: float, own: float, free: int) -> None:
    """Seconds of processor time in 4 s on four cores; clocks that disagree a little change nothing."""
    assert free_cores(*later(others + own, own)) == free


def test_nothing_is_said_of_an_instant_or_an_unknown_system() -> None:
    assert free_cores(*later(0.1, 0.0, clock=0.1)) is None
    assert free_cores(None, None) is None


def test_a_system_without_counts_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    assert Usage.now() is None


def test_a_new_run_takes_the_free_cores_and_a_resumed_one_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    began, now = later(8.0, 0.0)
    monkeypatch.setattr(threads, "_start", began)
    monkeypatch.setattr(Usage, "now", lambda: now)
    assert threads_for_training(4, None) == 2
    assert threads_for_training(1, None) == 1
    assert threads_for_training(4, 3) == 3
    assert threads_for_training(2, 3) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_for_training(4, None) == threads_for_training(4, 1) == 4


@pytest.mark.skipif(Usage.now() is None, reason="the system does not tell")
def test_a_busy_process_is_noticed() -> None:
    began = Usage.now()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    now = Usage.now()
    assert began is not None
    assert now is not None
    assert now.clock > began.clock
    assert now.busy - began.busy >= 0.0
    assert now.own > began.own  # children that have ended are ours


def test_a_command_measures_the_load_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_start", None)
    assert main(["--version"]) == 0
    assert threads._start is not None
