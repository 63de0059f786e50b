"""Behaviour that needs a process of its own: signals, closed pipes, imports, paths in the files."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.cli_runs import FAST, CommandLine, draw_nothing, files, write_npz

import nuat as package
from nuat import cli
from nuat.cli import main
from nuat.defenses import BatchLoss, NuAT
from nuat.errors import InputError, TransientError

CONSOLE = (sys.executable, "-m", "nuat")
LONG = ("train", *FAST, "--epochs", "30", "--data.path", "images.npz", "--out", "run")


def environment(**changes: str) -> dict[str, str]:
    """One thread, so that a run gives the same bits here and in this process."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), check=False)


def test_python_dash_m() -> None:
    ended = call(*CONSOLE, "--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"nuat {package.__version__}\n", "")


def test_the_console_script() -> None:
    script = Path(sys.executable).with_name("nuat")
    if not script.is_file():
        pytest.skip("the package is not installed with its console script")
    ended = call(str(script), "trian")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("nuat: error: unknown command 'trian'. Did you mean 'train'?")


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_has_left_is_no_error(unbuffered: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*CONSOLE, "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            env=environment(**({"PYTHONUNBUFFERED": "1"} if unbuffered else {})),
            check=False,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize(("error", "noted"), [(InputError, "2"), (TransientError, None)])
def test_only_what_cannot_pass_is_final_for_the_processes_of_a_run(
    error: type[InputError], noted: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error("the disk is away; start again.")

    monkeypatch.setattr(cli, "_command", fail)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("NUAT_FINAL", "final")):
        monkeypatch.setenv(name, value)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "nuat: error: the disk is away; start again.\n"
    assert (Path("final").read_text() if Path("final").exists() else None) == noted
    monkeypatch.delenv("RANK")
    assert main(["train"]) == 2


@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_ctrl_c_while_a_process_starts_is_one_line(rank: str | None, tmp_path: Path) -> None:
    """Torch cannot be imported again once its import has been interrupted."""
    torch_package = tmp_path / "torch"
    torch_package.mkdir()
    (torch_package / "__init__.py").write_text(
        "import os, pathlib, signal, time\n"
        "seen = pathlib.Path(__file__).with_name('seen')\n"
        "if seen.exists(): raise ImportError('torch can only be initialized once')\n"
        "seen.touch()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    ranked = {} if rank is None else {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [*CONSOLE, "train"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(PYTHONPATH=path, **ranked),
        check=False,
    )
    said = "" if rank == "1" else "\nnuat: interrupted\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", said)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory"),
            "out of memory",
        ),
        (PermissionError(13, "Permission denied", "runs/a/config.json"), "runs/a/config.json: permission denied"),
        (OSError(28, "No space left on device"), "no space left"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_command", lambda arguments: (fail, arguments))
    assert main(["train"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_torch_says_that_memory_is_used_up_as_we_know_it() -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.empty(2**61, dtype=torch.uint8)


@dataclass(frozen=True)
class Stopped:
    """A training that was told to stop in the middle."""

    folder: Path
    """The current folder of the process; the run is ``run`` in it."""
    code: int
    err: str


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("stopped")
    write_npz(folder / "images.npz")
    process = subprocess.Popen(
        [*CONSOLE, *LONG], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        metrics = folder / "run/metrics.jsonl"
        for _ in range(12_000):
            if (metrics.is_file() and metrics.read_text().count('"epoch"') > 2) or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return Stopped(folder, process.returncode, err)


def assert_ended_by(number: int, stopped: Stopped) -> None:
    assert stopped.code == 128 + number
    assert "Traceback" not in stopped.err
    (line,) = stopped.err.split("\n")[1:-1]  # after the ^C of a terminal comes an empty line
    assert line.startswith("nuat: stopped ")
    assert "the state is saved" in line
    assert line.endswith("Continue with: nuat train --resume run")
    epochs = [json.loads(text) for text in (stopped.folder / "run/metrics.jsonl").read_text().splitlines()]
    assert 1 <= sum(line["kind"] == "epoch" for line in epochs) < 30
    left = files(stopped.folder / "run")
    assert not [name for name in left if name.endswith(".tmp")]
    assert "evaluation.json" not in left


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_its_number_and_says_how_to_go_on(stopped: Stopped) -> None:
    assert_ended_by(signal.SIGINT, stopped)


@pytest.mark.slow
def test_sigterm_ends_a_run_as_ctrl_c_does(nuat: CommandLine, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, original = itertools.count(), NuAT.loss

    def terminated(self: NuAT, *rest: Any) -> BatchLoss:
        if next(batches) == 12:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *rest)

    monkeypatch.setattr(NuAT, "loss", terminated)
    ended = nuat(*LONG)
    assert_ended_by(signal.SIGTERM, Stopped(Path.cwd(), ended.code, ended.err))


def train(folder: Path, *arguments: str) -> Path:
    """Call the command line in ``folder``, in this process on one thread, and return the run."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_nothing(patch)
        torch.set_num_threads(1)
        assert main(list(arguments)) == 0
    torch.set_num_threads(threads)
    return folder / "run"


@pytest.fixture(scope="module")
def resumed(stopped: Stopped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resumed")
    shutil.copytree(stopped.folder, folder, dirs_exist_ok=True)
    return train(folder, "train", "--resume", "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_npz(folder / "images.npz")
    return train(folder, *LONG)


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_undisturbed_one(resumed: Path, undisturbed: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes()
    rows = [json.loads((run / "evaluation.json").read_text())["results"] for run in (resumed, undisturbed)]
    assert [row["correct"] for row in rows[0]] == [row["correct"] for row in rows[1]]


@pytest.mark.slow
def test_no_file_says_where_on_the_machine_it_was_written(stopped: Stopped, resumed: Path) -> None:
    """Only what the user typed: images.npz and run, here. The settings say where the images are, for later commands."""
    secrets = {str(stopped.folder), str(resumed.parent), str(Path.home()), str(Path(package.__file__).parent)}
    secrets |= {sys.prefix, sys.base_prefix}
    written = {name: content for name, content in files(resumed).items() if content is not None}
    assert {"environment.json", "checkpoint.pt", "best.safetensors", "metrics.jsonl", "evaluation.json"} <= set(written)
    assert any(name.startswith("tensorboard/") for name in written)
    path = json.loads(written["config.json"])["config"]["data"]["path"]
    assert Path(path) == stopped.folder / "images.npz"
    for name, content in written.items():
        if name == "config.json" or name.startswith("tensorboard/"):  # which shows the settings
            content = content.replace(path.encode(), b"")
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)
    typed = json.loads((resumed / "environment.json").read_text())["command"]
    assert typed[1:] == list(LONG)
    assert b"images.npz" in written["best.safetensors"]
