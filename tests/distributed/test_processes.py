"""``nuat train`` in several processes as a user starts it: the same run whatever happens to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from cli.cli_runs import CommandLine, draw_nothing
from image_files import write_folder
from training.small_runs import write_images

EPOCHS = 5
MINE = """
from dataclasses import dataclass

from nuat.defenses import NuAT


@dataclass(frozen=True, kw_only=True)
class Mine(NuAT):
    pass
"""
SMALL = (
    *("train", "quickstart", "--data.flip", "true", "--model.name", "wrn-10-1", "--batch-size", "32"),
    *("--threat.eps", "0.1", "--defense.alpha", "0.05", "--averaging.tau", "0.9", "--device", "cpu"),
    *("--evaluation.attacks", "clean,pgd-5", "--evaluation.n", "30", "--evaluation.batch-size", "10"),
)


def settings(images: Path, out: Path, *more: str) -> list[str]:
    """Return the command of a run of four batches an epoch."""
    return [*SMALL, "--data.path", str(images), "--data.validation", "20", "--out", str(out), *more]


@pytest.fixture(scope="module", autouse=True)
def _quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("NUAT_TIMEOUT", "60")
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("home")))  # where own code is noted
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command of a run of 15 batches an epoch, on files that a process of its own decodes for each process.

    The defense is in a file of the user's own, which each process runs.
    """
    folder = write_folder(tmp_path_factory.mktemp("files") / "set", {"train": 490, "test": 30})
    mine = folder.with_name("my.py")
    mine.write_text(MINE)
    return (
        *(*SMALL, "--defense", f"{mine}:Mine", "--epochs", str(EPOCHS), "--checkpoint-batches", "3"),
        *("--data.path", str(folder)),
        *("--data.validation", "10", "--data.loading", "stream", "--data.workers", "1", "--data.image-size", "8"),
    )


@pytest.fixture(scope="module")
def undisturbed(command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that torchrun starts: whoever starts them, and whatever ends them, it is the same."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "nuat")
    going = start([*command, "--out", str(out)], torchrun)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 0, told
    assert told.count("trained in") == 1
    defense = json.loads((out / "config.json").read_text())["config"]["defense"]
    assert defense["class"].startswith("my.py:Mine@")
    return out


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line in this process, which draws no figures; torch's launcher would leave its signal handlers."""
    draw_nothing(monkeypatch)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield CommandLine(capfd)
    for number, handler in before.items():
        signal.signal(number, handler)


def start(words: list[str], launcher: tuple[str, ...] = ("-m", "nuat")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launcher, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def kinds(out: Path) -> list[str]:
    file = out / "metrics.jsonl"
    return [json.loads(line)["kind"] for line in file.read_text().splitlines()] if file.is_file() else []


def epochs_done(out: Path) -> int:
    return kinds(out).count("epoch")


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return sorted(found)


def two_that_train(launcher: int, out: Path, before: list[int]) -> list[int]:
    """Wait until two processes, none of them of those before, have finished an epoch, and return them."""

    def begun() -> bool:
        found = children(launcher)
        return len(found) == 2 and not {*found} & {*before}

    wait_for(begun)
    done = epochs_done(out)
    wait_for(lambda: epochs_done(out) > done)
    return children(launcher)


def gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


def assert_same_run(out: Path, expected: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (safetensors.torch.load_file(folder / name) for folder in (out, expected))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    ours, theirs = (json.loads((folder / "evaluation.json").read_text()) for folder in (out, expected))
    assert [r["correct"] for r in ours["results"]] == [r["correct"] for r in theirs["results"]]
    assert epochs_done(out) == epochs_done(expected) == EPOCHS
    assert not list(out.glob(".*.tmp")), "nothing is half-written"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to find the processes")
def test_whatever_ends_its_processes_the_run_is_the_undisturbed_one(
    here: CommandLine, command: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    """A decoder is killed, a training process is killed, their launcher is killed, and SIGTERM comes, one by one."""
    out = tmp_path / "run"
    several = [*command, "--out", str(out), "--devices", "2", "--restarts", "2", "--auto-resume", "true"]
    going = start(several)
    wait_for(lambda: (out / "checkpoint.pt").is_file())
    first = children(going.pid)
    (decoder,) = children(first[1])
    os.kill(decoder, signal.SIGKILL)
    second = two_that_train(going.pid, out, first)
    assert gone(first)
    os.kill(second[1], signal.SIGKILL)
    third = two_that_train(going.pid, out, second)
    assert gone(second)
    going.kill()
    told = going.communicate(timeout=60)[0]  # its processes hold the output open until they end
    assert "a process that decodes images has died" in told
    assert "Traceback" not in told
    wait_for(lambda: gone(third))  # else they would train on beside the run that is resumed

    going = start(several)
    fourth = two_that_train(going.pid, out, [])
    going.send_signal(signal.SIGTERM)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 128 + signal.SIGTERM, told
    assert told.count("the state is saved") == 1
    wait_for(lambda: gone(fourth))
    assert epochs_done(out) < EPOCHS

    ended = here(*several)
    assert ended.code == 0, ended.err
    assert "resume" in kinds(out)
    assert_same_run(out, undisturbed)


@pytest.mark.slow
def test_evaluation_by_several_gives_the_verdicts_of_one(here: CommandLine, undisturbed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    assert len(list((out / "tensorboard").iterdir())) == 1  # only the first process is followed
    asked = ("evaluate", out, "--attacks", "clean,pgd-5", "--n", "30", "--batch-size", "10")
    here.done(*asked, "--json", out / "one.json")
    ended = here(*asked, "--devices", "2", "--json", out / "two.json")
    assert ended.code == 0, ended.err
    one, two, trained = (
        [result["correct"] for result in json.loads((out / name).read_text())["results"]]
        for name in ("one.json", "two.json", "evaluation.json")
    )
    assert one == two == trained


@pytest.mark.slow
def test_mistakes_are_said_once_and_left_at_that(here: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = here(*settings(tmp_path / "missing.npz", out, "--devices", "2", "--restarts", "1"))
    assert ended.code == 2
    assert ended.err.count("missing.npz") == 1, ended.err
    assert "Traceback" not in ended.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "0"], "devices=0: expected at least 1"),
        (["--devices", "2", "--restarts", "-1"], "restarts=-1"),
        (["--devices", "3", "--batch-size", "32"], "batch_size=32 does not divide among 3 devices"),
        (["--restarts", "1"], "no effect with one device"),
        (["--auto-resume", "true"], "give --out"),
        (["--devices", "2", "--device", "cuda:0"], "several processes each take a GPU of their own"),
        (["--devices", "2", "--out", "full"], "full: exists and is not empty"),
    ],
)
def test_refuses_before_processes_start(
    here: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    monkeypatch.setattr("nuat.distributed.launch.launch", lambda *_: pytest.fail("processes were started"))
    assert said in here.refused("train", "quickstart", *words)


def test_evaluate_refuses_before_processes_start(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuat.distributed.launch.launch", lambda *_: pytest.fail("processes were started"))
    assert "devices=0: expected at least 1" in here.refused("evaluate", "quickstart", "--devices", "0")


@pytest.mark.slow
def test_auto_resume_starts_anew_what_died_early_and_keeps_what_is_finished(
    here: CommandLine, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = settings(images, out, "--auto-resume", "true", "--epochs", "1")
    out.mkdir()
    for name in ("config.json", "metrics.jsonl"):  # as a process leaves them that dies while it starts
        (out / name).write_text("")
    (out / ".config.json.ab12.tmp").write_text("{")  # or that is killed while it writes
    assert here(*command).code == 0
    for left in out.iterdir():
        if left.is_file() and left.name not in ("config.json", "metrics.jsonl"):
            left.unlink()
    (out / "metrics.jsonl").write_text((out / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    (out / ".checkpoint.pt.ab12.tmp").write_text("PK")
    assert here(*command).code == 0
    assert not list(out.glob(".*.tmp"))
    record = (out / "metrics.jsonl").read_text()
    (out / "checkpoint.pt").unlink()
    ended = here(*command)
    assert ended.code == 2
    assert "exists and is not empty" in ended.err
    assert (out / "metrics.jsonl").read_text() == record


@pytest.mark.slow
def test_auto_resume_keeps_what_other_settings_or_an_alarm_left(
    here: CommandLine, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = here(*settings(images, out, "--epochs", "1", "--monitors.overfitting-gap", "0.01", "--seed", "1"))
    assert ended.code == 0, ended.err
    for name in ("checkpoint.pt", "evaluation.json"):
        (out / name).unlink()
    lines = (out / "metrics.jsonl").read_text().splitlines()
    (out / "metrics.jsonl").write_text(lines[0] + "\n")
    best = (out / "best.safetensors").read_bytes()
    ended = here(*settings(images, out, "--auto-resume", "true", "--epochs", "2"))
    assert ended.code == 2
    assert "was begun with" in ended.err
    alarm = json.dumps({"kind": "alarm", "monitor": "overfitting", "epoch": 1, "message": "", "stop": True})
    (out / "metrics.jsonl").write_text(lines[0] + "\n" + alarm + "\n")
    ended = here(*settings(images, out, "--auto-resume", "true", "--epochs", "1", "--seed", "1"))
    assert ended.code == 2
    assert (out / "best.safetensors").read_bytes() == best


def test_other_commands_run_in_one_process(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    ended = here("recipes")
    assert ended.code == 2
    assert "'nuat recipes' runs in one process" in ended.err
