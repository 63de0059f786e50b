"""When one of several processes ends: for good, or with its launcher."""

import os
import threading
from pathlib import Path

import pytest

from nuat.distributed import lifetime


@pytest.fixture
def final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells the processes of a run that it is over; not there yet."""
    monkeypatch.setenv(lifetime.FINAL, str(tmp_path / "final"))
    return tmp_path / "final"


def test_a_run_is_over_when_a_process_has_noted_so(final: Path) -> None:
    assert lifetime.final_code() is None
    assert not lifetime.ended(within=0.0)
    for code in (0, 1, 75, 137):  # a restart may mend these
        lifetime.note_end(code)
        assert not final.exists()
    for code in lifetime.MEANT:
        lifetime.note_end(code)
        assert lifetime.final_code() == code
    assert lifetime.ended(within=0.0)
    final.write_text("")  # cut off
    assert lifetime.final_code() == 1


def test_torchruns_processes_note_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lifetime.FINAL, raising=False)
    lifetime.note_end(2)
    assert lifetime.final_code() is None
    assert lifetime.ended(within=60.0)


@pytest.mark.parametrize("given", [None, "4711"])
def test_a_process_watches_its_launcher(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[tuple[int, ...]] = []
    monkeypatch.setattr(lifetime, "_watch", lambda launcher: watched.append((launcher,)))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    lifetime.end_with_launcher()
    assert watched == []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    if given is None:
        monkeypatch.delenv(lifetime.LAUNCHER, raising=False)
    else:
        monkeypatch.setenv(lifetime.LAUNCHER, given)
    before = set(threading.enumerate())
    lifetime.end_with_launcher()
    for thread in set(threading.enumerate()) - before:
        assert thread.daemon
        thread.join()
    assert watched == [(os.getppid() if given is None else 4711,)]


def test_a_process_whose_launcher_is_gone_ends_as_if_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 1])
    slept: list[float] = []
    codes: list[int] = []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(lifetime.time, "sleep", slept.append)
    monkeypatch.setattr(os, "_exit", codes.append)
    lifetime._watch(7)
    assert (len(slept), codes) == (2, [137])
