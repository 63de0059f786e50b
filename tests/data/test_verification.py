"""Files that cannot be decoded: named and refused, or left out and counted, in memory and streamed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import KINDS, encoded, hash_of, write_folder, write_shards

from nuat.config import DataConfig
from nuat.data import Dataset, decoding, load, verification
from nuat.data.samples import FileSamples
from nuat.errors import InputError, TransientError

PATH = FileSamples._path
WAYS = pytest.mark.parametrize("loading", ["memory", "stream"])


@pytest.fixture
def tree(tmp_path):
    """27 training and 9 test images of three classes, of every kind; two training and one test image are bad."""
    root = write_folder(tmp_path / "pets", {"train": 27, "test": 9})
    for file in bad_files(root):
        file.write_bytes(file.read_bytes()[:40] if file.suffix == ".png" else b"no image")
    return root


def bad_files(root: Path) -> list[Path]:
    return [root / "train" / "a" / "0006.png", root / "train" / "c" / "0026.webp", root / "test" / "b" / "0004.jpg"]


def read(root: Path, **changes) -> Dataset:
    settings = {"image_size": 8, "validation": 3, "cache": root.parent / "cache"}
    if changes.get("loading") == "stream":
        settings["workers"] = 0
    return load(DataConfig(path=root, **(settings | changes)))


@WAYS
def test_bad_files_are_refused_by_name_with_their_number(tree, loading):
    for _ in range(2):  # the second time from what was kept
        with pytest.raises(InputError) as caught:
            read(tree, loading=loading)
        message = str(caught.value)
        first, second, third = map(str, bad_files(tree))
        assert message.startswith(f"{first} cannot be read as an image (")
        assert f"And so for 2 more of 36 images: {second}, {third}. Or give" in message
        assert "--data.on-bad skip" in message
        assert "\n" not in message


@WAYS
def test_a_single_bad_file_is_named_alone(tree, loading):
    for file in bad_files(tree)[1:]:
        file.write_bytes(encoded("rgb.jpg"))
    with pytest.raises(InputError, match=r"0006\.png cannot be read .* Or give --data\.on-bad skip, ") as caught:
        read(tree, loading=loading)
    assert "more" not in str(caught.value)


@WAYS
def test_bad_files_are_left_out_counted_and_told(tree, loading):
    for _ in range(2):  # the second time from what was kept
        with pytest.warns(RuntimeWarning, match=r"3 of 36 images cannot be decoded and are left out: .*0006\.png"):
            dataset = read(tree, loading=loading, on_bad="skip")
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22, 3, 8)
        assert dataset.skipped == 3
        assert dataset.skipped_names == tuple(map(str, bad_files(tree)))
        assert dataset.test.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


@WAYS
@pytest.mark.parametrize("on_bad", ["refuse", "skip"])
def test_a_file_that_cannot_be_read_is_looked_at_again(tree, monkeypatch, loading, on_bad):
    unread = tree / "train" / "b" / "0001.jpg"
    original = Path.read_bytes

    def denied(self: Path) -> bytes:
        if self == unread:
            raise PermissionError(13, "Permission denied")
        return original(self)

    for of_file, n in ((denied, 4), (original, 3)):
        monkeypatch.setattr(Path, "read_bytes", of_file)
        if on_bad == "refuse":
            with pytest.raises(InputError, match=f"And so for {n - 1} more of 36 images") as caught:
                read(tree, loading=loading)
            assert caught.type is InputError  # files that are damaged stay so
        elif n == 4:  # it may be there at the next start, which would then train on other images
            with pytest.raises(TransientError, match=rf"{unread.name} cannot be read \(Permission denied\)"):
                read(tree, loading=loading, on_bad="skip")
        else:
            with pytest.warns(RuntimeWarning, match="3 of 36 images"):
                assert read(tree, loading=loading, on_bad="skip").skipped == 3


@WAYS
def test_where_no_file_is_damaged_but_some_cannot_be_read_it_may_pass(tmp_path, monkeypatch, loading):
    root = write_folder(tmp_path / "set", {"train": 12, "test": 3})
    with monkeypatch.context() as patch:
        patch.setattr(FileSamples, "_path", lambda samples, i: samples.root / "gone" if i == 5 else PATH(samples, i))
        with pytest.raises(TransientError, match=r"gone cannot be read \(No such file or directory\)"):
            read(root, loading=loading)
    assert len(read(root, loading=loading, validation=0).train) == 12


def test_what_was_found_is_kept_beside_what_could_not_be_read(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", {"train": 12, "test": 3})
    looked_at = []
    check = decoding.check

    def counting(content: bytes, name: str) -> bool:
        looked_at.append(Path(name).name)
        return check(content, name)

    monkeypatch.setattr(decoding, "check", counting)
    file = root / "train" / "b" / "0004.jpg"
    with monkeypatch.context() as patch:
        patch.setattr(
            FileSamples, "_path", lambda samples, i: root / "gone" if PATH(samples, i) == file else PATH(samples, i)
        )
        for _ in range(2):
            with pytest.raises(TransientError, match="gone cannot be read"):
                read(root, loading="stream")
    assert len(looked_at) == 14
    for _ in range(2):
        assert len(read(root, loading="stream", validation=0).train) == 12
    assert looked_at[14:] == [file.name]


def test_both_ways_leave_the_same_images_in_the_same_order(tree):
    with pytest.warns(RuntimeWarning, match="left out"):
        one, other = (read(tree, loading=loading, on_bad="skip") for loading in ("memory", "stream"))
    for a, b in ((one.train, other.train), (one.validation, other.validation), (one.test, other.test)):
        decoded = b.select(torch.arange(len(b)))
        assert torch.equal(a.images, decoded.images)
        assert torch.equal(a.labels, decoded.labels)
        assert torch.equal(a.labels, b.labels)


@WAYS
def test_nothing_left_is_an_error_even_where_bad_files_are_skipped(tmp_path, loading):
    root = write_folder(tmp_path / "set", {"train": 12, "test": 3})
    for file in (root / "train" / "b").iterdir():
        file.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="4 of 15"), pytest.raises(InputError) as caught:
        read(root, loading=loading, on_bad="skip")
    assert "none of the 4 training images of class 'b' can be decoded" in str(caught.value)
    for file in root.rglob("*.*"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 15 images can be decoded; the first: .*0000"):
        read(root, loading=loading, on_bad="skip")


def test_bad_members_of_shards_are_named_with_their_shard(tmp_path):
    root = write_shards(tmp_path / "set", {"train": 12, "val": 3})
    shard = root / "train" / "set-000002.tar"
    image = encoded("cmyk.jpg", label=2, seed=hash_of("train", 11))
    assert image in shard.read_bytes()
    shard.write_bytes(shard.read_bytes().replace(image, b"\0" * len(image)))
    with pytest.raises(InputError, match=r"set-000002\.tar: 000011\.jpg cannot be read as an image"):
        read(root, loading="stream")
    with pytest.warns(RuntimeWarning, match=r"1 of 15 images"):
        dataset = read(root, loading="stream", on_bad="skip", validation=0)
    assert len(dataset.train) == 11


def test_a_second_start_decodes_nothing_and_a_changed_file_is_looked_at_again(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", {"train": 12, "test": 3})
    first = read(root, loading="stream", validation=0)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "check", lambda *_: pytest.fail("looked at again"))
        again = read(root, loading="stream", validation=0)
    assert again.train.fingerprint() == first.train.fingerprint()
    (root / "train" / "a" / "0000.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0000\.jpg cannot be read"):
        read(root, loading="stream")


@pytest.mark.parametrize("damage", ["cut", "empty", "fewer"])
def test_what_was_kept_is_made_again_where_it_is_corrupt(tree, damage):
    with pytest.warns(RuntimeWarning, match="left out"):
        first = read(tree, loading="stream", on_bad="skip")
    (path,) = (tree.parent / "cache" / "verified").iterdir()
    if damage == "fewer":
        with np.load(path) as file:
            np.savez(path, **{**dict(file), "reasons": file["reasons"][:1]})
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    with pytest.warns(RuntimeWarning, match="left out"):
        again = read(tree, loading="stream", on_bad="skip")
    assert again.train.fingerprint() == first.train.fingerprint()
    assert again.skipped_names == first.skipped_names


@WAYS
@pytest.mark.parametrize(("kinds", "channels"), [(("grey.jpg", "deep.png"), 1), (("grey.jpg", "rgb.jpg"), 3)])
def test_the_images_have_one_channel_only_where_all_are_grey(tmp_path, loading, kinds, channels):
    root = write_folder(tmp_path / "set", {"train": 12, "test": 6}, kinds=kinds)
    dataset = read(root, loading=loading)
    assert dataset.channels == dataset.validation.channels == channels
    assert dataset.test.select(torch.tensor([3, 0])).images.shape == (2, channels, 8, 8)


def test_more_images_than_one_chunk_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_CHUNK", 4)
    root = write_folder(tmp_path / "set", {"train": 30, "test": 3}, kinds=KINDS)
    dataset = read(root, loading="stream", validation=0)
    decoded = dataset.train.select(torch.arange(30)).images
    for i in range(30):
        assert torch.equal(decoded[i], dataset.train.select(torch.tensor([i])).images[0])


def test_the_cores_of_a_system_that_knows_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert verification.cores() == 3
