"""A run in trouble: two processes in one folder, a folder that goes away, other threads, monitors that are off."""

import multiprocessing
import os
import shutil
import subprocess
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_runs import (
    BATCHES,
    PowerCut,
    Spoiled,
    Watcher,
    assert_same_run,
    cut,
    metrics,
    small_config,
    train,
    wait_for,
    write_images,
)

import nuat
from nuat.config import DataConfig, TrainConfig
from nuat.defenses import FGSMAT
from nuat.errors import InputError
from nuat.records import environment
from nuat.records.folder import RunFolder
from nuat.training import bookkeeping


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# one process in a folder


@pytest.mark.slow
def test_a_second_process_is_refused_while_a_run_is_trained(images: Path, tmp_path: Path) -> None:
    """Whether it resumes or starts; the run itself is undisturbed."""
    config, out = small_config(images), tmp_path / "run"
    refused: list[str] = []

    def another() -> None:
        wait_for(out / "checkpoint.pt")  # a thread writes it
        before = files(out)
        with pytest.raises(InputError, match="another process is writing to this folder") as caught:
            train(config, out, resume=True)
        refused.append(str(caught.value))
        assert files(out) == before

    train(config, out, {BATCHES + 1: another})
    assert len(refused) == 1
    assert "\n" not in refused[0]
    train(config, tmp_path / "alone")
    assert_same_run(out, tmp_path / "alone")
    assert not (out / ".lock").exists()


def test_two_new_runs_do_not_share_a_folder(images: Path, tmp_path: Path) -> None:
    """The second has seen the folder free, and comes to it when the first has begun."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.locked(), pytest.raises(InputError, match="another process is writing"):
        train(small_config(images), folder.path)
    assert not folder.config.exists()


def test_a_run_that_came_and_ended_meanwhile_is_left_alone(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process took the lock first, and is gone."""
    folder, create = RunFolder(tmp_path / "run"), RunFolder.create

    def both(ours: RunFolder) -> None:
        create(ours)
        ours.config.write_text("of another")

    monkeypatch.setattr(RunFolder, "create", both)
    with pytest.raises(InputError, match="exists and is not empty"):
        train(small_config(images), folder.path)
    assert files(folder.path) == {folder.config: b"of another"}


def test_a_start_that_looks_for_a_run_to_resume_leaves_a_living_one_alone(images: Path, tmp_path: Path) -> None:
    config, out = small_config(images), tmp_path / "run"
    with pytest.raises(PowerCut):
        train(config, out, {1: cut})  # no checkpoint yet
    folder = RunFolder(out)
    with folder.locked():
        before = files(out)
        with pytest.raises(InputError, match="another process is writing"):
            folder.clear_start(config)
        assert files(out) == before
    folder.clear_start(config)
    assert not folder.config.exists()


def hold(path: Path, ready: Event) -> None:
    with RunFolder(path).locked():
        ready.set()
        time.sleep(600)


@pytest.mark.slow
def test_the_lock_of_a_killed_process_keeps_nobody_out(images: Path, tmp_path: Path) -> None:
    config, out = small_config(images), tmp_path / "run"
    with pytest.raises(PowerCut):
        train(config, out, {BATCHES + 1: cut})
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(out, ready))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(InputError, match="another process is writing"):
            train(config, out, resume=True)
    finally:
        holder.kill()
        holder.join()
    assert (out / ".lock").exists()
    train(config, out, resume=True)
    train(config, tmp_path / "alone")
    assert_same_run(out, tmp_path / "alone")


def test_a_stale_lock_alone_is_no_run(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").touch()
    train(small_config(images, epochs=1), out)


# a folder that cannot be written to, or goes away


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_read_only_folder_is_refused_in_one_line(
    error: OSError, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = small_config(images), tmp_path / "run"
    with pytest.raises(PowerCut):
        train(config, out, {BATCHES + 1: cut})
    real = os.open

    def refuse(path: object, flags: int, *more: object, **keywords: object) -> int:
        if str(path).startswith(str(out)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise type(error)(error.errno, error.strerror, str(path))
        return real(path, flags, *more, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=rf"run: cannot be written to \({error.strerror}\)") as caught:
        train(config, out, resume=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("step", [2, BATCHES + 1])
def test_a_folder_that_is_removed_ends_the_run_in_one_line(
    step: int, every: int | None, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"run: was removed or moved while a run was writing") as caught:
        train(small_config(images, checkpoint_batches=every), out, {step: lambda: out.rename(tmp_path / "moved")})
    assert "\n" not in str(caught.value)
    assert not out.exists()  # it is not made anew without its settings


@pytest.mark.parametrize("every", [None, 1])
def test_another_folder_in_its_place_is_not_written_to(every: int | None, images: Path, tmp_path: Path) -> None:
    """Neither a line nor a checkpoint."""
    out = tmp_path / "run"

    def replace() -> None:
        out.rename(tmp_path / "moved")
        out.mkdir()

    with pytest.raises(InputError, match="run: was removed or moved"):
        train(small_config(images, epochs=1, checkpoint_batches=every), out, {1: replace})
    assert files(out) == {}


def test_a_folder_that_is_removed_under_a_checkpoint_ends_the_run_in_one_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = tmp_path / "run", bookkeeping.save_checkpoint

    def late(path: Path, state: dict[str, Any]) -> None:
        out.rename(tmp_path / "moved")
        save(path, state)

    monkeypatch.setattr(bookkeeping, "save_checkpoint", late)
    with pytest.raises(InputError, match="run: was removed or moved"):
        train(small_config(images, epochs=1), out)


def test_a_removed_folder_is_not_locked(tmp_path: Path) -> None:
    """The lock would make it anew."""
    with pytest.raises(InputError, match="run: was removed or moved"), RunFolder(tmp_path / "run").locked():
        pass
    assert not (tmp_path / "run").exists()


def test_a_half_line_of_metrics_is_left_out_and_a_damaged_one_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    folder.append({"kind": "start", "recipe": "a"})
    with folder.metrics.open("a") as file:
        file.write('{"kind": "ep')
    assert [line["kind"] for line in folder.read_metrics()] == ["start"]
    with folder.metrics.open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"metrics.jsonl: line 2: not JSON, or cut off"):
        folder.read_metrics()


# what is said


@pytest.mark.slow
def test_other_threads_than_at_the_start_are_said(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = small_config(images), tmp_path / "run"
    with pytest.raises(PowerCut):
        train(config, out, {BATCHES + 1: cut})
    assert environment.threads_of(out / "environment.json") == torch.get_num_threads()
    assert environment.threads_of(out / "none.json") is environment.run_id_of(out / "none.json") is None
    same, other = Watcher(), Watcher()
    shutil.copytree(out, tmp_path / "twin")
    nuat.run(config, out=out, resume=True, reporter=same)
    assert not [text for text in same.messages if "goes on on" in text]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    nuat.run(config, out=tmp_path / "twin", resume=True, reporter=other)
    (said,) = [text for text in other.messages if "goes on on" in text]
    assert "7 threads" in said
    assert "to the last bit" in said


@pytest.mark.parametrize(
    ("validation", "clean_loss", "off"),
    [(20, True, []), (20, False, []), (0, True, ["overfitting"]), (0, False, ["overfitting", "collapse"])],
)
def test_monitors_that_are_off_are_said_and_recorded(
    validation: int, clean_loss: bool, off: list[str], images: Path, tmp_path: Path
) -> None:
    data = DataConfig(path=images, validation=validation)
    config: TrainConfig = small_config(images, data=data, defense=Spoiled() if clean_loss else FGSMAT())
    told = Watcher()
    nuat.run(config, out=tmp_path / "run", reporter=told)
    lines = metrics(tmp_path / "run", "monitor_off")
    assert [line["monitor"] for line in lines] == off
    said = [text for text in told.messages if " is off: " in text]
    assert said == [f"warning: {line['message']}" for line in lines]


def test_the_git_state_sees_new_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "nuat"
    package.mkdir(parents=True)
    (package / "hardware.py").write_text("")

    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    monkeypatch.setattr(environment.hardware, "__file__", str(package / "hardware.py"))
    clean = environment.git_revision()
    assert clean is not None
    assert not clean.endswith("-dirty")
    (tmp_path / "notes.txt").write_text("")  # outside the package
    assert environment.git_revision() == clean
    (package / "mine.py").write_text("")
    assert environment.git_revision() == f"{clean}-dirty"
    (package / "mine.py").unlink()
    (package / "hardware.py").write_text("x = 1\n")
    assert environment.git_revision() == f"{clean}-dirty"
