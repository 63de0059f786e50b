"""``nuat train`` in several processes as a user starts it: the same run whatever happens to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from cli.cli_runs import CommandLine, draw_nothing
from image_files import write_folder
from training.small_runs import write_images

EPOCHS = 4
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "NUAT_TIMEOUT": "60"}


def settings(images: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "quickstart", "--data.path", str(images), "--data.validation", "20", "--data.flip", "true"),
        *("--model.name", "wrn-10-1", "--epochs", str(EPOCHS), "--batch-size", "32", "--threat.eps", "0.1"),
        *("--defense.alpha", "0.05", "--averaging.tau", "0.9", "--evaluation.attacks", "clean,pgd-5"),
        *("--evaluation.n", "30", "--evaluation.batch-size", "10", "--device", "cpu", "--out", str(out), *more),
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = run(settings(images, out, "--devices", "2"))
    assert done.returncode == 0, done.stderr
    return out


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nuat", *words], capture_output=True, text=True, timeout=240, env=QUIET
    )


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in this process, which draws no figures."""
    draw_nothing(monkeypatch)
    return CommandLine(capsys)


def start(words: list[str], launcher: tuple[str, ...] = ("-m", "nuat")) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *launcher, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=QUIET
    )


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def epochs_done(out: Path) -> int:
    file = out / "metrics.jsonl"
    return sum(json.loads(line)["kind"] == "epoch" for line in file.read_text().splitlines()) if file.is_file() else 0


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
def test_a_killed_process_is_started_again_and_changes_nothing(images: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    going = start(settings(images, out, "--devices", "2", "--restarts", "2", "--checkpoint-batches", "3"))
    wait_for(lambda: epochs_done(out) >= 1 and (out / "checkpoint.pt").is_file())
    workers = children(going.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 0, told
    assert "resume" in {json.loads(line)["kind"] for line in (out / "metrics.jsonl").read_text().splitlines()}
    assert_same_run(out, undisturbed)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to find the processes")
def test_a_killed_decoder_ends_no_run_that_may_be_started_again(tmp_path: Path) -> None:
    folder, out = write_folder(tmp_path / "set", {"train": 960, "test": 30}), tmp_path / "run"
    streamed = ("--data.loading", "stream", "--data.workers", "1", "--data.image-size", "8")
    several = ("--devices", "2", "--restarts", "1", "--checkpoint-batches", "3", "--epochs", "2")
    going = start(settings(folder, out, *streamed, *several))
    wait_for(lambda: (out / "checkpoint.pt").is_file())  # early in the first of its epochs of 30 batches
    (decoder,) = children(children(going.pid)[1])
    os.kill(decoder, signal.SIGKILL)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 0, told
    assert "a process that decodes images has died" in told
    assert "Traceback" not in told
    assert "resume" in {json.loads(line)["kind"] for line in (out / "metrics.jsonl").read_text().splitlines()}
    assert epochs_done(out) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to find the processes")
def test_processes_end_with_their_launcher(images: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Even if it is killed: else they would train on beside the run that is resumed."""
    out = tmp_path / "run"
    going = start(settings(images, out, "--devices", "2", "--checkpoint-batches", "3"))
    wait_for(lambda: epochs_done(out) >= 1 and (out / "checkpoint.pt").is_file())
    workers = children(going.pid)
    assert len(workers) == 2
    going.kill()
    going.communicate(timeout=60)  # they hold its output open until they end
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    done = run(["train", "--resume", str(out), "--devices", "2"])
    assert done.returncode == 0, done.stderr
    assert_same_run(out, undisturbed)


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(images: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = settings(images, out, "--devices", "2", "--auto-resume", "true")
    going = start(command)
    wait_for(lambda: epochs_done(out) >= 1)
    workers = children(going.pid)
    going.send_signal(signal.SIGTERM)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 128 + signal.SIGTERM, told
    assert told.count("the state is saved") == 1
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert_same_run(out, undisturbed)


@pytest.mark.slow
def test_torchrun_starts_it_too(images: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "nuat")
    going = start(settings(images, out), torchrun)
    told = going.communicate(timeout=240)[0]
    assert going.returncode == 0, told
    assert told.count("trained in") == 1
    assert_same_run(out, undisturbed)


@pytest.mark.slow
def test_evaluation_by_several_gives_the_verdicts_of_one(here: CommandLine, undisturbed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    command = ["evaluate", str(out), "--attacks", "clean,pgd-5", "--n", "30", "--batch-size", "10"]
    here.done(*command, "--json", out / "one.json")
    done = run([*command, "--devices", "3", "--json", str(out / "three.json")])
    assert done.returncode == 0, done.stderr
    one, three, two = (
        [result["correct"] for result in json.loads((out / name).read_text())["results"]]
        for name in ("one.json", "three.json", "evaluation.json")
    )
    assert one == two == three


@pytest.mark.slow
def test_mistakes_are_said_once_and_left_at_that(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(settings(tmp_path / "missing.npz", out, "--devices", "2", "--restarts", "1"))
    assert done.returncode == 2
    assert done.stderr.count("missing.npz") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "0"], "devices=0: expected at least 1"),
        (["--devices", "2", "--restarts", "-1"], "restarts=-1"),
        (["--devices", "3", "--batch-size", "32"], "batch_size=32 does not divide among 3 devices"),
        (["--restarts", "1"], "no effect with one device"),
        (["--auto-resume", "true"], "give --out"),
    ],
)
def test_refuses(
    here: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in here.refused("train", "quickstart", *words)


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
