"""A disk that fills up: a clean message, everything written before whole, and a resume that loses nothing."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from training.small_runs import (
    BATCHES,
    Watcher,
    assert_equal,
    assert_same_run,
    metrics,
    remembered,
    small_config,
    temporary_files,
    train,
    wait_for,
    write_images,
)

import nuat
from nuat.config import TrainConfig
from nuat.errors import InputError
from nuat.records.checkpoints import save_checkpoint
from nuat.records.folder import RunFolder

resource = pytest.importorskip("resource", reason="limits on the size of files are POSIX")

# the files that a run of two epochs writes whole, in order
WRITES = (
    *("config.json", "environment.json", "split.json"),
    *("best.safetensors", "last.safetensors", "checkpoint.pt") * 2,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """Return the settings and the folder of a run with room enough."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(small_config(images), out)
    return small_config(images), out


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the operating system refuse, within the block, every byte of a file past ``size``, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def whole_lines(folder: Path) -> None:
    """The metrics, where there are any, hold whole lines only."""
    if (folder / "metrics.jsonl").exists():
        metrics(folder)


@pytest.mark.parametrize("nth", range(1, len(WRITES) + 1))
def test_any_file_that_is_written_whole(
    nth: int, undisturbed: tuple[TrainConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = undisturbed
    out = tmp_path / "run"
    real, done = os.fsync, 0
    kept: dict[Path, bytes] = {}

    def fsync(descriptor: int) -> None:
        nonlocal done
        done += 1
        if done == nth:
            for path in out.iterdir():
                if path.is_file() and path.suffix != ".tmp" and path.name != ".lock":
                    kept[path] = path.read_bytes()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match="no space left on the disk") as caught:
        train(config, out)
    monkeypatch.undo()
    assert str(out) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert done == nth
    assert temporary_files(tmp_path) == []
    assert {path.name for path in kept} - {"metrics.jsonl"} == set(WRITES[: nth - 1])
    assert {path: path.read_bytes() for path in kept} == kept
    whole_lines(out)
    if "checkpoint.pt" in WRITES[: nth - 1]:
        assert "--resume" in str(caught.value)
        train(config, out, resume=True)
        assert_same_run(out, whole)
    else:
        assert "--resume" not in str(caught.value)  # there is nothing to resume from
        with pytest.raises(InputError, match=r"(checkpoint\.pt|config\.json): no such file"):
            train(config, out, resume=True)


@pytest.mark.parametrize("room", [0, 1, 60])
def test_a_line_of_the_metrics_that_does_not_fit(tmp_path: Path, room: int) -> None:
    folder = RunFolder(tmp_path)
    for i in range(3):
        size = folder.append({"kind": "epoch", "epoch": i})
    before = folder.metrics.read_bytes()
    assert len(before) == size
    with files_no_larger_than(size + room), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        folder.append({"kind": "epoch", "text": "x" * 200})
    assert folder.metrics.read_bytes() == before
    assert folder.append({"kind": "end"}) == folder.metrics.stat().st_size
    assert [json.loads(line)["kind"] for line in folder.metrics.read_text().splitlines()] == ["epoch"] * 3 + ["end"]


@pytest.mark.parametrize("room", [0, 500, 5_000, 100_000, 404_000, 405_000])
def test_a_checkpoint_that_does_not_fit_says_why(tmp_path: Path, room: int) -> None:
    """torch's writer turns some errors of a file into a RuntimeError of its own."""
    path = tmp_path / "checkpoint.pt"
    state = {"small": torch.ones(1000), "large": torch.ones(100_000)}  # 407 kB
    save_checkpoint(path, {"small": torch.zeros(1)})
    before = path.read_bytes()
    with files_no_larger_than(room), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        save_checkpoint(path, state)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def metrics_grow_by(out: Path, room: int) -> int:
    return (out / "metrics.jsonl").stat().st_size + room


def checkpoint_halves(out: Path, room: int) -> int:
    return (out / "checkpoint.pt").stat().st_size // 2


@pytest.mark.slow
@pytest.mark.parametrize("limit", [metrics_grow_by, checkpoint_halves])
def test_a_run_on_a_disk_that_is_really_full(
    limit: Callable[[Path, int], int], undisturbed: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    """From the first step of epoch 2 no file may grow past some size: the operating system itself refuses."""
    config, whole = undisturbed
    out = tmp_path / "run"
    stack = contextlib.ExitStack()

    def fill() -> None:
        wait_for(out / "checkpoint.pt")  # a thread writes it
        stack.enter_context(files_no_larger_than(limit(out, 20)))

    with stack, pytest.raises(InputError, match="no space left on the disk"):
        nuat.run(config, out=out, reporter=Watcher({BATCHES + 1: fill}))
    assert temporary_files(tmp_path) == []
    metrics(out)
    first = remembered(out)
    assert (first["epoch"], first["batch"]) == (1, 0)
    train(config, out, resume=True)
    assert_same_run(out, whole)


def test_other_errors_of_files_are_not_taken_for_a_full_disk(
    undisturbed: tuple[TrainConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
        train(undisturbed[0], tmp_path / "run")
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_quotas_count_as_a_full_disk(
    number: int, undisturbed: tuple[TrainConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match=os.strerror(number)):
        train(undisturbed[0], tmp_path / "run")


@pytest.mark.slow
def test_the_checkpoint_before_is_the_one_of_an_undisturbed_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the second checkpoint does not fit, the first is what a run that stops there would have kept."""
    from training.small_runs import PowerCut, cut

    config = small_config(images)
    with pytest.raises(PowerCut):
        train(config, tmp_path / "cut", {BATCHES + 1: cut})
    nth = WRITES.index("checkpoint.pt") + 1 + 3
    real, done = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal done
        done += 1
        if done == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match="no space left"):
        train(config, tmp_path / "full")
    assert_equal(remembered(tmp_path / "full"), remembered(tmp_path / "cut"))
