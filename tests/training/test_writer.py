"""Large files are written by a thread, from copies; its failures reach the run."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout
from training.small_runs import (
    BATCHES,
    PowerCut,
    assert_same_run,
    cut,
    interrupt,
    metrics,
    small_config,
    temporary_files,
    train,
    write_images,
)

from nuat.errors import InputError
from nuat.records.checkpoints import read_checkpoint
from nuat.records.folder import RunFolder
from nuat.training import bookkeeping
from nuat.training.run import Loop
from nuat.training.signals import Interrupted
from nuat.training.writer import Writer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def test_what_is_written_is_a_copy_of_that_moment() -> None:
    go, seen = threading.Event(), []

    def save(values: Any) -> None:
        go.wait()
        seen.append((values["a"].tolist(), values["b"][0]["c"].tolist(), values["n"], threading.current_thread()))

    tensor = torch.zeros(2)
    writer = Writer(CPU, lambda: None)
    writer.write(save, {"a": tensor, "b": [{"c": tensor}], "n": 3})
    tensor += 1
    go.set()
    writer.finish()
    ((a, c, n, thread),) = seen
    assert (a, c, n) == ([0.0, 0.0], [0.0, 0.0], 3)
    assert thread is not threading.current_thread()
    writer.close()


def test_after_a_failure_nothing_is_written_and_every_call_says_so() -> None:
    written: list[int] = []

    def save(number: int) -> None:
        if number == 1:
            raise OSError("no")
        written.append(number)

    go = threading.Event()
    writer = Writer(CPU, lambda: None)
    writer.write(lambda _: go.wait(), None)
    for number in (1, 2):
        writer.write(save, number)
    go.set()
    with pytest.raises(OSError, match="no"):
        writer.finish()
    for call in (writer.check, writer.finish, lambda: writer.write(save, 3)):
        with pytest.raises(OSError, match="no"):
            call()
    writer.close()
    assert written == []


def test_no_more_than_a_few_copies_wait() -> None:
    go, written = threading.Event(), list[int]()

    def save(number: int) -> None:
        go.wait()
        written.append(number)

    writer = Writer(CPU, lambda: None)
    for number in range(3):
        writer.write(save, number)
    fourth = threading.Thread(target=writer.write, args=(save, 3))
    fourth.start()
    fourth.join(0.05)
    assert fourth.is_alive()
    go.set()
    fourth.join()
    writer.finish()
    assert written == [0, 1, 2, 3]
    writer.close()


def broken(*arguments: Any) -> None:
    raise OSError(5, "a broken disk")


def test_a_failure_ends_the_run_at_its_next_record(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, save = threading.Event(), Writer._save

    def save_and_tell(writer: Writer, *work: Any) -> None:
        save(writer, *work)
        if writer._failure is not None:
            failed.set()

    monkeypatch.setattr(bookkeeping, "save_checkpoint", broken)
    monkeypatch.setattr(Writer, "_save", save_and_tell)
    with pytest.raises(OSError, match="a broken disk"):
        train(small_config(images, epochs=3), tmp_path / "run", {BATCHES + 1: lambda: failed.wait(60.0)})
    assert len(metrics(tmp_path / "run", "epoch")) == 1
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_checkpoint_that_fails_is_not_said_to_be_saved_on_a_stop(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "save_checkpoint", broken)
    with pytest.raises((OSError, Interrupted), match="a broken disk"):
        train(small_config(images), tmp_path / "run", {1: interrupt})


def test_checkpoints_that_come_too_soon_are_left_out(images: Path, tmp_path: Path) -> None:
    config = small_config(images, checkpoint_seconds=3600.0, checkpoint_batches=1)
    with pytest.raises(PowerCut):
        train(config, tmp_path / "cut", {6: cut})
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", {6: interrupt})
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 6
    train(config, tmp_path / "run", resume=True)
    train(small_config(images), tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_times_are_refused(seconds: float, images: Path) -> None:
    with pytest.raises(InputError, match="checkpoint_seconds"):
        small_config(images, checkpoint_seconds=seconds)


def test_the_folder_is_locked_until_the_last_file_is_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails while a checkpoint is being written must not let another process in before it is whole."""
    go, held = threading.Event(), []
    lock = RunFolder(tmp_path / "run").lock

    def late(*_: object) -> None:
        go.wait(10.0)
        time.sleep(0.1)  # the run ends meanwhile
        try:
            FileLock(lock).acquire(timeout=0)
        except Timeout:
            held.append(True)

    trained = Loop.train_epoch

    def second_fails(loop: Loop, stop: Any) -> None:
        if loop.state.epoch == 1:
            go.set()
            raise InputError("no more images.")
        trained(loop, stop)

    monkeypatch.setattr(bookkeeping, "save_checkpoint", late)
    monkeypatch.setattr(Loop, "train_epoch", second_fails)
    with pytest.raises(InputError, match="no more images"):
        train(small_config(images, epochs=2), tmp_path / "run")
    assert held == [True]
