"""Several processes share a campaign: each row is done once, by whichever takes it first."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaign.campaign_runs import NAMES, NORMAL, NUAT, plan, record, runner, snapshot, statuses, toml

from nuat.campaign import Ledger, QueueEntry, RowStatus
from nuat.cli import main

ARGUMENTS = ("small.toml", "--out", "out")
SHARED = toml({"recipe": NORMAL, "set": {"epochs": 40}}, {"recipe": NUAT, "seeds": [0, 1]})


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


def kinds(name: str) -> list[str]:
    return [json.loads(line)["kind"] for line in (Path("out") / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_do_every_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Another process is in the middle of the first row, and is held there, while this one does the campaign."""
    campaign = plan(SHARED)
    first, *rest = (row.name for row in campaign.rows)
    other = start()
    try:
        wait_for(Path("out") / first / "config.json", other)
        other.send_signal(signal.SIGSTOP)
        assert statuses(runner(campaign).queue()) == {first: "running", **dict.fromkeys(rest, "waiting")}
        assert main(["campaign", *ARGUMENTS]) == 0
        ours = capsys.readouterr().out
        assert statuses(runner(campaign).queue()) == {first: "running", **dict.fromkeys(rest, "done")}
        assert not (Path("out") / first / "row.json").exists()
        other.send_signal(signal.SIGCONT)
        theirs, error = other.communicate(timeout=120)
    finally:
        other.kill()
    assert other.returncode == 0, error
    assert set(statuses(runner(campaign).queue()).values()) == {"done"}
    for name in (first, *rest):
        assert kinds(name).count("start") == kinds(name).count("end") == 1
        assert "resume" not in kinds(name)
    announced = [
        [f"{name}: {epochs} epochs, then " in out for out in (ours, theirs)]
        for name, epochs in ((first, 40), *((name, 2) for name in rest))
    ]
    assert announced == [[False, True], [True, False], [True, False]]
    assert (Path("out") / "table.md").read_text().count("3 of 3 rows are done") == 1


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
