"""The launcher of several processes: the exit code that stands for theirs, and an environment that is put back."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from nuat import own_code
from nuat.distributed import launch
from nuat.distributed.lifetime import FINAL, LAUNCHER
from nuat.errors import InputError


def ends_with(*codes: int) -> ChildFailedError:
    failures = {i: ProcessFailure(i, 100 + i, code, "none") for i, code in enumerate(codes)}
    return ChildFailedError("nuat", failures)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[Any]]]:
    """Launch without a process; return the exit code, and the settings, command and environment that they would get."""

    def launched(error: Exception | None = None, restarts: int = 0) -> tuple[int, list[Any]]:
        seen: list[Any] = []

        def elastic_launch(config: Any, program: str) -> Callable[..., None]:
            def run(*words: str) -> None:
                seen.extend([config, (program, *words), dict(os.environ)])
                if error is not None:
                    raise error

            return run

        monkeypatch.setattr(launch, "elastic_launch", elastic_launch)
        return launch.launch(["train", "quickstart"], 2, restarts), seen

    return launched


def test_the_processes_get_their_share_and_the_environment_is_put_back(
    started: Callable[..., tuple[int, list[Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    (tmp_path / "mine.py").touch()
    own_code.give(str(tmp_path / "mine.py"))
    before = dict(os.environ)
    code, (config, words, environment) = started(restarts=3)
    own_code.forget_given()
    assert (code, config.nproc_per_node, config.max_restarts) == (0, 2, 3)
    assert words == (sys.executable, "-m", "nuat", "train", "quickstart", "--code", str(tmp_path / "mine.py"))
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment[LAUNCHER] == str(os.getpid())
    assert not Path(environment[FINAL]).parent.exists()
    assert dict(os.environ) == before
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert started()[1][2]["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ends_with(1), 1),
        (ends_with(1, 2), 2),  # the mistake, and not the process that ended because of it
        (ends_with(-9), 137),
        (ends_with(-6, 143), 143),
        (SignalException("stop", signal.SIGTERM), 143),
        (SignalException("stop", signal.SIGINT), 130),
    ],
)
def test_the_exit_code_is_that_of_the_process_that_failed(
    error: Exception, code: int, started: Callable[..., tuple[int, list[Any]]]
) -> None:
    before = dict(os.environ)
    assert started(error)[0] == code
    assert dict(os.environ) == before


def test_devices_are_refused_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.check(2, 1, "cpu")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="devices=2 has no effect under torchrun"):
        launch.check(2, 0, "cpu")


def test_a_waiting_time_that_is_none_is_refused_before_processes_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUAT_TIMEOUT", "0")
    with pytest.raises(InputError, match="NUAT_TIMEOUT='0': expected a number of seconds > 0"):
        launch.check(2, 0, "cpu")
