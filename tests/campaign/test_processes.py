"""Several processes share a campaign: each row is done once, by whichever takes it first."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign.campaign_runs import FOUR, NAMES, NORMAL, SMALL, plan, record, run, runner, snapshot, statuses, toml

from nuat.campaign import Ledger, QueueEntry, RowStatus
from nuat.cli import main

ARGUMENTS = ("small.toml", "--out", "out")
LONG = toml({"recipe": NORMAL}, {"recipe": NORMAL, "set": {"epochs": 3}}, common={**SMALL, "epochs": 100_000})
FIRST, SECOND = f"{NORMAL}/seed-0", f"{NORMAL}_epochs-3/seed-0"


def start() -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "nuat", "campaign", *ARGUMENTS],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if file.is_file() or process.poll() is not None:
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of the first row of ``LONG``."""
    Path("small.toml").write_text(LONG)
    process = start()
    try:
        wait_for(Path("out") / FIRST / "checkpoint.pt", process)
        yield process
    finally:
        process.kill()
        process.communicate()


def kinds(name: str) -> list[str]:
    return [json.loads(line)["kind"] for line in (Path("out") / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_do_every_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Another process has begun when this one comes to the campaign."""
    Path("small.toml").write_text(FOUR)
    other = start()
    wait_for(Path("out") / NAMES[0] / "config.json", other)
    assert main(["campaign", *ARGUMENTS]) == 0
    ours = capsys.readouterr().out
    theirs, error = other.communicate(timeout=120)
    assert other.returncode == 0, error
    assert statuses(runner(plan()).queue()) == dict.fromkeys(NAMES, "done")
    for name in NAMES:
        assert kinds(name).count("start") == 1
        assert kinds(name).count("end") == 1
    announced = [[out.count(f"{name}: 2 epochs, then ") for name in NAMES] for out in (ours, theirs)]
    assert [sum(counts) for counts in zip(*announced, strict=True)] == [1] * 4, (ours, theirs)
    assert all(map(any, announced)), "each did its share"
    assert (Path("out") / "table.md").read_text().count("4 of 4 rows are done") == 1


@pytest.mark.slow
def test_a_row_that_another_process_holds_is_running_until_that_is_stopped(busy: subprocess.Popen[str]) -> None:
    campaign = plan(LONG)
    assert statuses(runner(campaign).queue()) == {FIRST: "running", SECOND: "waiting"}
    assert run(campaign) == {FIRST: "running", SECOND: "done"}
    assert busy.poll() is None
    assert not (Path("out") / FIRST / "row.json").exists()
    assert "resume" not in kinds(FIRST)
    busy.send_signal(signal.SIGINT)
    out, error = busy.communicate(timeout=60)
    assert busy.returncode == 130
    (line,) = error.strip().splitlines()
    assert line == f"nuat: stopped in {FIRST}; what is finished is kept in out. The same command goes on"
    assert f"{FIRST}: 100000 epochs, then main, few" in out
    assert statuses(runner(campaign).queue()) == {FIRST: "half done", SECOND: "done"}


def test_what_a_killed_process_held_is_free() -> None:
    campaign, ledger = plan(), Ledger(Path("out"))
    row = campaign.rows[0]
    lock = Path(ledger.lock(row).lock_file)
    lock.parent.mkdir(parents=True)
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = ledger.status(row)
        process.kill()
    assert held is RowStatus.RUNNING
    assert ledger.status(row) is RowStatus.WAITING
    assert ledger.try_lock(ledger.lock(row))


def test_a_look_at_the_queue_is_no_worker() -> None:
    """A look holds a lock for an instant; another look in that instant waits for it."""
    campaign = plan()
    ledger = Ledger(Path("out"))
    row = campaign.rows[0]
    lock = ledger.lock(row)
    assert ledger.try_lock(lock)
    assert ledger.status(row) is RowStatus.RUNNING
    waited: list[float] = []
    whole = Ledger.try_lock

    def let_go(other: object, seconds: float = 0.0) -> bool:
        waited.append(seconds)
        lock.release()
        return whole(other, seconds)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "try_lock", staticmethod(let_go))
        assert ledger.status(row) is RowStatus.WAITING
    assert waited
    assert waited[0] > 0.0


def test_a_row_that_another_process_ended_while_this_one_chose_it_is_not_done_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue was read before the other process wrote the row's record."""
    held = record(NAMES[0])
    path = finished / NAMES[0] / "row.json"
    path.unlink()
    before = snapshot(finished)
    whole = Ledger.try_lock

    def taken(lock: object, seconds: float = 0.0) -> bool:
        if seconds >= 1.0:  # the worker's, not a look's
            path.write_text(json.dumps(held))
        return whole(lock, seconds)  # type: ignore[arg-type]

    ours = runner(plan())
    monkeypatch.setattr(Ledger, "try_lock", staticmethod(taken))
    monkeypatch.setattr(ours, "_do", lambda row: pytest.fail("done already"))
    ended: list[QueueEntry] = []
    assert set(statuses(ours.run(None, ended.append)).values()) == {"done"}
    assert [entry.row.name for entry in ended] == NAMES[:1]
    after = snapshot(finished)
    assert {name: after[name] for name in before} == before
