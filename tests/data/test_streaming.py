"""Streamed sets: every image once an epoch, the same pixels whoever decodes them, and what ends a stream."""

import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from image_files import write_folder, write_shards
from torch.utils.data import dataloader

from nuat.config import DataConfig
from nuat.data import Batch, Dataset, StreamedSet, epoch_batches, load, streaming
from nuat.data.samples import FileSamples, ShardSamples
from nuat.errors import TransientError

N = 41  # six batches of 7 images, the last of 6

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait half a second, not five, for processes that neither answer nor end."""
    monkeypatch.setattr(streaming, "_DYING_SECONDS", 0.5)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))
    yield
    if multiprocessing.active_children():
        gc.collect()  # an error's traceback keeps the workers of its set


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """A folder and shards of the same 41 training images, and six of the test."""
    home = tmp_path_factory.mktemp("streams")
    n = {"train": N, "test": 6}
    return {"files": write_folder(home / "files", n), "shards": write_shards(home / "shards", n), "cache": home / "c"}


def read(roots: dict[str, Path], kind: str, workers: int | None = 0, **changes) -> Dataset:
    settings = {"image_size": 12, "validation": 0, "loading": "stream", "workers": workers}
    return load(DataConfig(path=roots[kind], cache=roots["cache"], **(settings | changes)))


def run(streamed: StreamedSet, **changes) -> list[Batch]:
    settings = {"order_seed": 0, "epoch": 0, "crop_padding": 0, "crop_scale": 0.3, "flip": True} | changes
    return list(epoch_batches(streamed, 7, generator=torch.Generator(), **settings))


def assert_equal(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.index, other.index)


KINDS = pytest.mark.parametrize("kind", ["files", "shards"])


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_every_image_comes_once_an_epoch_also_when_it_is_resumed_in_the_middle(roots, kind, workers):
    streamed = read(roots, kind, workers).train
    for epoch in range(2):  # the workers stay
        whole = run(streamed, epoch=epoch)
        assert [len(batch.y) for batch in whole] == [7] * 5 + [6]
        index = torch.cat([batch.index for batch in whole])
        assert torch.equal(index.sort().values, torch.arange(N))
        assert torch.equal(torch.cat([batch.y for batch in whole]), streamed.labels[index])
        for start in (1, 4, 6):
            first = list(itertools.islice(stream(streamed, epoch=epoch), start))
            rest = run(streamed, epoch=epoch, start=start)
            assert_equal([*first, *rest], whole)
    streamed.close()


def stream(streamed: StreamedSet, **changes):
    settings = {"order_seed": 0, "epoch": 0, "crop_padding": 0, "crop_scale": 0.3, "flip": True} | changes
    return epoch_batches(streamed, 7, generator=torch.Generator(), **settings)


@pytest.mark.slow
@KINDS
def test_neither_workers_nor_ranks_nor_a_new_start_change_a_pixel(roots, kind):
    whole = run(read(roots, kind, 0).train, epoch=3)
    for workers in (1, 4):
        assert_equal(run(read(roots, kind, workers).train, epoch=3), whole)
    for start in (0, 2):
        parts = [run(read(roots, kind, 1).train, epoch=3, start=start, rank=rank, ranks=3) for rank in range(3)]
        for batch, *of_ranks in zip(whole[start:], *parts, strict=True):
            for rank, part in enumerate(of_ranks):
                assert torch.equal(part.x, batch.x[rank::3])
                assert torch.equal(part.y, batch.y)
                assert torch.equal(part.index, batch.index)


@KINDS
def test_what_is_skipped_or_of_another_rank_is_not_read(roots, kind, monkeypatch):
    read_before = {"files": FileSamples, "shards": ShardSamples}[kind]
    original, seen = read_before.read, []

    def counting(self, i):
        seen.append(i)
        return original(self, i)

    streamed = read(roots, kind).train
    monkeypatch.setattr(read_before, "read", counting)
    batches = run(streamed, start=2)
    assert seen == torch.cat([batch.index for batch in batches]).tolist()
    seen.clear()
    batches = run(streamed, start=2, rank=1, ranks=2)
    assert seen == [i for batch in batches for i in batch.index[1::2].tolist()]


@KINDS
def test_epochs_and_seeds_have_their_own_order_and_augmentation(roots, kind):
    streamed = read(roots, kind).train
    seen = [run(streamed, epoch=epoch, order_seed=seed) for epoch, seed in ((0, 0), (1, 0), (0, 1))]
    images = []
    for batches in seen:
        index = torch.cat([batch.index for batch in batches])
        images.append(torch.cat([batch.x for batch in batches])[torch.argsort(index)])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(torch.cat([x.index for x in seen[a]]), torch.cat([x.index for x in seen[b]]))
        differ = (images[a] != images[b]).flatten(1).any(1)
        assert differ.float().mean() > 0.8  # images of one pixel look alike in every crop


def test_without_augmentation_it_is_the_resident_path_in_the_same_order(roots):
    plain = {"crop_scale": None, "flip": False}
    resident = read(roots, "files", None, loading="memory").train
    for epoch in (0, 1):
        assert_equal(run(read(roots, "files").train, epoch=epoch, **plain), run(resident, epoch=epoch, **plain))


@pytest.mark.slow
def test_another_size_comes_straight_from_the_image(roots):
    batches = run(read(roots, "files", 1).train, size=20, channels_last=True)
    assert {tuple(batch.x.shape[1:]) for batch in batches} == {(3, 20, 20)}
    assert all(batch.x.is_contiguous(memory_format=torch.channels_last) for batch in batches)


@KINDS
def test_subset_select_and_fingerprint(roots, kind):
    streamed = read(roots, kind).train
    chosen = torch.tensor([5, 0, 17])
    part = streamed.subset(chosen)
    assert isinstance(part, StreamedSet)
    assert part.labels.tolist() == streamed.labels[chosen].tolist()
    assert torch.equal(part.select(torch.tensor([2])).images, streamed.select(torch.tensor([17])).images)
    assert len(streamed.select(chosen[:0])) == 0
    assert part.fingerprint() != streamed.fingerprint() == read(roots, kind).train.fingerprint()
    assert streamed.subset(chosen[[1, 0, 2]]).fingerprint() != part.fingerprint()
    assert (streamed.channels, streamed.image_size) == (3, (12, 12))


def test_the_split_and_the_limit_are_those_of_the_resident_path(roots):
    settings = {"validation": 6, "train_limit": 12}
    one, other = read(roots, "files", **settings), read(roots, "files", None, loading="memory", **settings)
    assert torch.equal(one.validation.images, other.validation.images)
    assert torch.equal(one.validation_indices, other.validation_indices)
    assert torch.equal(one.train.labels, other.train.labels)
    assert torch.equal(one.train.select(torch.arange(12)).images, other.train.images)


def test_streaming_draws_nothing_from_the_global_generator(roots):
    streamed = read(roots, "files", 1).train
    torch.manual_seed(7)
    state = torch.get_rng_state()
    run(streamed)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_workers_stay_over_epochs_and_go_with_the_set(roots):
    streamed = read(roots, "files", 2).train
    run(streamed)
    first = {process.pid for process in multiprocessing.active_children()}
    assert len(first) == 2
    run(streamed, epoch=1)
    assert {process.pid for process in multiprocessing.active_children()} == first
    del streamed
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_an_epoch_that_was_left_gives_way_to_the_next_and_cannot_be_gone_on_with(roots):
    streamed = read(roots, "files", 2).train
    left = stream(streamed, epoch=0)
    next(left)
    assert_equal(run(streamed, epoch=1), run(read(roots, "files").train, epoch=1))
    with pytest.raises(RuntimeError, match="another epoch"):
        next(left)
    streamed.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@KINDS
def test_an_image_that_vanishes_is_named_and_no_process_stays(tmp_path, kind, workers):
    n = {"train": 20, "test": 3}
    root = {"files": write_folder, "shards": write_shards}[kind](tmp_path / "set", n)
    streamed = read({kind: root, "cache": tmp_path / "c"}, kind, workers).train
    run(streamed)
    victim = root / "train" / ("b/0010.jpg" if kind == "files" else "set-000002.tar")
    victim.unlink()
    with pytest.raises(TransientError) as caught:
        run(streamed, epoch=1)
    assert str(caught.value).startswith(f"{victim}")
    assert "cannot be read (No such file or directory); put it back" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def wait_until(holds, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_in_a_sentence(roots):
    streamed = read(roots, "files", 2).train
    batches = stream(streamed)
    next(batches)
    before = signal.getsignal(signal.SIGCHLD)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TransientError) as caught:  # what they had made may still come
        list(batches)
    for word in ("a process that decodes images has died", "--data.workers", "/dev/shm", "--auto-resume true"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) is before
    assert multiprocessing.active_children() == []
    assert_equal(run(streamed), run(read(roots, "files").train))  # new ones start


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, 2])
def test_a_worker_that_is_killed_between_two_epochs_is_replaced(roots, killed):
    streamed = read(roots, "files", 2).train
    run(streamed)
    first = set(streamed._processes)
    for process in list(first)[:killed]:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.warns(RuntimeWarning, match=r"a process that decodes images has died \(.*\) and is replaced"):
        batches = run(streamed, epoch=1)
    assert_equal(batches, run(read(roots, "files").train, epoch=1))
    assert len(streamed._processes) == 2
    assert not any(process.is_alive() for process in first)
    streamed.close()


def test_workers_that_cannot_be_started_are_told_in_a_sentence(roots, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", full)
    with pytest.raises(TransientError, match=r"cannot be started \(.*Cannot allocate memory\); .* --data\.workers"):
        run(read(roots, "files", 2).train)


@pytest.mark.slow
def test_a_group_that_is_asked_to_end_still_gets_the_batches_that_lead_to_its_checkpoint(roots):
    streamed = read(roots, "files", 1).train
    whole = run(read(roots, "files").train)
    batches = stream(streamed)
    got = [next(batches)]
    (worker,) = streamed._processes
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # by another process than its parent
    got.extend(batches)  # however many an update takes
    assert_equal(got, whole)
    assert not worker.is_alive()
    assert_equal(run(streamed, epoch=1), run(read(roots, "files").train, epoch=1))
    assert len(streamed._processes) == 1  # the next epoch has workers again
    streamed.close()


@pytest.mark.slow
def test_ctrl_c_is_left_to_the_training_process(roots):
    streamed = read(roots, "files", 2).train
    batches = stream(streamed)
    got = [next(batches)]
    for process in streamed._processes:
        os.kill(process.pid, signal.SIGINT)
    got += batches
    assert_equal(got, run(read(roots, "files").train))


@pytest.mark.slow
def test_an_error_in_a_worker_is_no_mistake_of_the_user(roots, monkeypatch):
    def odd(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("nuat.data.workers.training_view", odd)
    with pytest.raises(RuntimeError, match="odd"):
        run(read(roots, "files", 1).train)


def test_a_batch_that_does_not_fit_into_memory_is_told(roots, monkeypatch):
    def full(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(TransientError, match=r"no room for a batch of 7 images .*No space left.*/dev/shm"):
        run(read(roots, "files", 1).train)


def train_until(how: str, roots: dict[str, Path], said: Connection) -> None:
    """Begin an epoch, send the ids of its two workers, and end or wait to be killed."""
    batches = stream(read(roots, "files", 2).train)
    if how == "sigkill while they begin":
        begin = streaming.begin_worker
        streaming.begin_worker = lambda number: (time.sleep(0.5), begin(number))
        threading.Thread(target=next, args=(batches,), daemon=True).start()
        wait_until(lambda: len(multiprocessing.active_children()) == 2)
    else:
        next(batches)
    said.send([process.pid for process in multiprocessing.active_children()])
    if how != "end":
        time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "sigkill", "sigkill while they begin"])
def test_no_worker_outlives_the_training_process(roots, how):
    told, said = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=train_until, args=(how, roots, said))
    process.start()
    assert told.poll(60)
    workers = told.recv()
    assert len(workers) == 2
    if how != "end":
        process.kill()
    process.join(60)

    def gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{pid}/stat").is_file() and ") Z " in Path(f"/proc/{pid}/stat").read_text()

    wait_until(lambda: all(map(gone, workers)))


def test_the_number_of_workers_follows_the_cores(monkeypatch):
    for cores, sharing, expected in ((1, 1, 1), (2, 1, 1), (8, 1, 7), (64, 1, 16), (64, 8, 7)):
        monkeypatch.setattr(streaming, "cores", lambda cores=cores: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(sharing))
        assert streaming.default_workers() == expected
