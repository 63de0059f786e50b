"""Image folders: layout, classes, channels, sizes, and the cache of decoded pixels."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nuat.data import folders, memory, verification
from nuat.data.decoding import SUFFIXES
from nuat.data.images import UnsplitData
from nuat.errors import InputError


def read(root: Path, image_size: int | None, cache: Path) -> UnsplitData:
    return memory.read(folders.scan(root), image_size, cache)


def save(path: Path, value: int, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


@pytest.fixture
def tree(tmp_path):
    """Two classes; train has two images of each, test one."""
    root = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog")):
        save(root / "train" / name / "a.png", 10 + label)
        save(root / "train" / name / "b.PNG", 20 + label)
        save(root / "test" / name / "a.bmp", 30 + label)
    return root


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def failure(root: Path, cache: Path, image_size: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(root, image_size, cache)
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()], "a failure leaves nothing in the cache"
    return str(caught.value)


def test_train_and_test_with_classes_sorted_by_name(tree, cache):
    source = read(tree, None, cache)
    assert source.classes == ("cat", "dog")
    assert source.train.images[:, 0, 0, 0].tolist() == [10, 20, 11, 21]
    assert source.train.labels.tolist() == [0, 0, 1, 1]
    assert source.test.images[:, 0, 0, 0].tolist() == [30, 31]
    assert source.test.labels.tolist() == [0, 1]
    assert source.train.images.shape == (4, 3, 4, 4)
    assert source.validation is None
    assert source.description == f"image folder {tree}"


def test_val_alone_is_the_test_part(tree, cache):
    (tree / "test").rename(tree / "val")
    source = read(tree, None, cache)
    assert source.test.images[:, 0, 0, 0].tolist() == [30, 31]
    assert source.validation is None
    assert "there is no test/, so val/ holds the test images" in source.notes


def test_val_beside_test_is_the_validation_part(tree, cache):
    for name in ("cat", "dog"):
        save(tree / "val" / name / "v.png", 77)
    source = read(tree, None, cache)
    assert source.validation is not None
    assert source.validation.images[:, 0, 0, 0].tolist() == [77, 77]
    assert source.test.images[:, 0, 0, 0].tolist() == [30, 31]


def test_hidden_and_other_files_are_skipped_and_subfolders_read(tree, cache):
    save(tree / "train" / "cat" / ".hidden.png", 99)
    save(tree / "train" / ".thumbnails" / "a.png", 99)
    save(tree / "train" / "cat" / ".trash" / "a.png", 99)
    (tree / "train" / "cat" / "notes.txt").write_text("no image")
    save(tree / "train" / "dog" / "more" / "c.png", 55)
    source = read(tree, None, cache)
    assert source.train.images[:, 0, 0, 0].tolist() == [10, 20, 11, 21, 55]
    assert source.classes == ("cat", "dog")


def test_a_hidden_image_outside_of_class_folders_is_skipped(tree, cache):
    save(tree / "train" / "._a.jpg", 99)
    assert len(read(tree, None, cache).train) == 4


def test_links_to_files_and_to_folders_are_followed(tree, tmp_path, cache):
    save(tmp_path / "more" / "deep" / "c.png", 55)
    (tree / "train" / "cat" / "more").symlink_to(tmp_path / "more")
    (tree / "train" / "cat" / "d.png").symlink_to(tmp_path / "more" / "deep" / "c.png")
    (tree / "train" / "dog").rename(tmp_path / "dogs")
    (tree / "train" / "dog").symlink_to(tmp_path / "dogs")
    source = read(tree, None, cache)
    assert source.train.images[:, 0, 0, 0].tolist() == [10, 20, 55, 55, 11, 21]


@pytest.mark.parametrize("up", [".", "..", "../..", "/"])
def test_a_link_that_leads_back_is_refused(tree, cache, up):
    link = tree / "train" / "cat" / "again"
    link.symlink_to(up)
    assert f"{link} leads back to a folder that it lies in" in failure(tree, cache)


def test_links_that_lead_to_each_other_are_refused(tree, cache):
    for one, other in (("cat", "dog"), ("dog", "cat")):
        (tree / "train" / one / "other").symlink_to(tree / "train" / other)
    assert f"{tree / 'train/cat/other/other'} leads back" in failure(tree, cache)


def test_an_image_that_a_link_should_lead_to_is_missed_by_name(tree, cache):
    link = tree / "train" / "dog" / "c.png"
    link.symlink_to(tree / "gone.png")
    message = failure(tree, cache)
    assert f"{link} cannot be read (No such file or directory)" in message
    with pytest.raises(InputError, match=r"c\.png cannot be read"):
        memory.read(folders.scan(tree), None, cache, on_bad="skip")
    save(tree / "gone.png", 60)
    assert read(tree, None, cache).train.images[:, 0, 0, 0].tolist() == [10, 20, 11, 21, 60]


@pytest.mark.parametrize("name", ["train/cat/more", "train/cow", "val"])
def test_a_folder_that_a_link_should_lead_to_is_named(tree, cache, name):
    (tree / name).symlink_to(tree / "gone")
    assert f"{tree / name} is a link to {tree / 'gone'}, which is not there" in failure(tree, cache)


@pytest.mark.parametrize("name", [".", "train", "test/dog"])
def test_a_folder_that_cannot_be_read_is_named(tree, cache, monkeypatch, name):
    def denied(original):
        def call(folder):
            if Path(folder) == tree / name:
                raise PermissionError(13, "Permission denied", str(folder))
            return original(folder)

        return call

    if name == ".":
        (tree / "test").rename(tree / "testing")  # its names are then listed
    for module, call in ((os, "scandir"), (os, "listdir")):
        monkeypatch.setattr(module, call, denied(getattr(module, call)))
    assert f"{tree / name} cannot be read (Permission denied)" in failure(tree, cache)


def test_greyscale_images_alone_give_one_channel_and_a_single_colour_image_three(tmp_path, cache):
    for part in ("train", "test"):
        for name in ("x", "y"):
            save(tmp_path / "grey" / part / name / "a.png", 40, mode="L")
    assert read(tmp_path / "grey", None, cache).train.images.shape == (2, 1, 4, 4)
    save(tmp_path / "grey" / "train" / "y" / "a.png", 40)
    source = read(tmp_path / "grey", None, cache)
    assert source.train.images.shape == (2, 3, 4, 4)
    assert np.all(source.train.images.numpy() == 40)


def test_mixed_sizes_are_refused_without_an_image_size_and_resized_with_one(tree, cache):
    save(tree / "train" / "dog" / "big.png", 60, size=(8, 6))
    message = failure(tree, cache)
    for word in (str(tree / "train/cat/a.png"), "4x4", str(tree / "train/dog/big.png"), "8x6", "--data.image-size"):
        assert word in message
    assert read(tree, 5, cache).train.images.shape == (5, 3, 5, 5)


def test_a_folder_without_the_layout_is_refused(tmp_path, tree, cache):
    (tmp_path / "empty").mkdir()
    message = failure(tmp_path / "empty", cache)
    assert "train/<class>/" in message
    assert "found nothing" in message
    (tree / "test").rename(tree / "testing")
    assert "found testing, train" in failure(tree, cache)


def test_a_class_of_the_evaluation_that_training_lacks_is_refused(tree, cache):
    (tree / "test" / "dog").rename(tree / "test" / "dgo")
    assert f"{tree / 'test' / 'dgo'} is not in train" in failure(tree, cache)


@pytest.mark.parametrize("emptied", ["folder", "file"])
def test_a_class_without_test_images_is_said_and_keeps_its_label(tree, cache, emptied):
    (tree / "test" / "cat" / "a.bmp").unlink()
    if emptied == "folder":
        (tree / "test" / "cat").rmdir()
    source = read(tree, None, cache)
    assert source.classes == ("cat", "dog")
    assert source.test.labels.tolist() == [1]
    assert source.notes == ("test/ has no image of 1 of 2 classes: cat",)


def test_a_training_class_or_a_part_without_images_is_refused(tree, cache):
    for name in ("cat", "dog"):
        (tree / "test" / name / "a.bmp").unlink()
    assert f"{tree / 'test'} holds no image" in failure(tree, cache)
    for file in (tree / "train" / "cat").iterdir():
        file.unlink()
    assert f"{tree / 'train' / 'cat'} holds no image" in failure(tree, cache)


@pytest.mark.parametrize("name", ["val", "test"])
def test_one_part_alone_is_enough_to_evaluate(tree, cache, name):
    shutil.rmtree(tree / "train")
    (tree / "test").rename(tree / name)
    message = failure(tree, cache)
    assert f"to evaluate only, {name}/ is enough" in message
    source = memory.read(folders.scan(tree, needs_train=False), None, cache)
    assert source.test.images[:, 0, 0, 0].tolist() == [30, 31]
    assert source.test.labels.tolist() == [0, 1]
    assert (len(source.train), source.train.channels, source.classes) == (0, 3, ("cat", "dog"))


@pytest.mark.slow
@given(st.lists(st.sampled_from(SUFFIXES), min_size=1, max_size=6), st.booleans())
def test_files_of_every_suffix_are_found(suffixes, upper):
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "test"):
            for i, suffix in enumerate(suffixes):
                file = Path(folder) / part / "cat" / f"{i}{suffix.upper() if upper else suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")
        parts = folders.scan(Path(folder))
    assert len(parts.train) == len(parts.test) == len(suffixes)
    assert parts.notes == ()


def test_every_kind_of_file_is_read_or_counted(tmp_path, cache):
    """24 files of four formats: once 18 of them were dropped without a word."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for i, (suffix, format_) in enumerate((("png", "PNG"), ("tif", "TIFF"), ("jfif", "JPEG"), ("ppm", "PPM"))):
                file = tmp_path / part / name / f"{i}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (40 * i, 0, 0)).save(file, format_)
            (tmp_path / part / name / "Thumbs.db").write_bytes(b"")
    source = read(tmp_path, None, cache)
    assert len(source.train) == len(source.test) == 8
    assert np.abs(source.train.images[:4, 0, 0, 0].numpy().astype(int) - [0, 40, 80, 120]).max() <= 2
    assert source.notes == ("4 files are passed over: 4 .db (train/cat/Thumbs.db)",)


def test_what_is_passed_over_is_counted_and_named_in_printable_text(tree, cache):
    (tree / "train" / "labels.csv").write_text("")
    (tree / "train" / "cat" / "a.raw").write_text("")
    (tree / "test" / "dog" / "\x1b[31m\n.raw").write_text("")
    (tree / "test" / "dog" / os.fsdecode(b"\xff.xyz")).write_text("")
    (tree / "extra").mkdir()
    (tree / "train" / "cat" / ".hidden").write_text("")
    files, others = read(tree, None, cache).notes
    assert files.startswith("4 files are passed over: 2 .raw (train/cat/a.raw), 1 .csv (train/labels.csv), ")
    assert r"(test/dog/\udcff.xyz)" in files
    assert files.isprintable()
    assert others == "folders other than train, val and test are passed over: extra"


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", os.fsdecode(b"\xffcat")])
def test_names_of_classes_are_printable(tree, cache, name):
    for part in ("train", "test"):
        (tree / part / "dog").rename(tree / part / name)
    source = read(tree, None, cache)
    assert len(source.classes) == 2
    assert all(one.isprintable() for one in source.classes)
    json.dumps(source.classes).encode("utf-8")
    assert sorted(source.train.labels.tolist()) == [0, 0, 1, 1]


def deep(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], dtype=np.uint16)).save(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_few_bits_in_16_are_refused_and_16_are_scaled_and_said(tmp_path, cache, bits):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            deep(tmp_path / "pets" / part / name / "a.png", [0, 2**bits - 1])
    with pytest.raises(InputError, match=rf"no value above {2**bits - 1}, so they hold about {bits} bits"):
        read(tmp_path / "pets", None, cache)
    deep(tmp_path / "pets" / "train" / "cat" / "b.png", [0, 65535])
    source = read(tmp_path / "pets", None, cache)
    assert source.train.images[1].flatten().tolist() == [0, 255]
    assert source.notes[0].startswith("5 images of 16 bits per pixel are scaled to 8 bits: ")


def test_transparent_images_are_said(tree, cache):
    Image.new("RGBA", (4, 4)).save(tree / "test" / "dog" / "b\x1b.png")
    for _ in range(2):  # the second time from the cache
        source = read(tree, None, cache)
        assert source.test.images[:, 0, 0, 0].tolist() == [30, 31, 255]
        assert source.notes == (
            f"1 images have transparent pixels, which are shown on white: {tree}/test/dog/b\\x1b.png",
        )


def test_images_outside_of_class_folders_are_refused(tree, cache):
    save(tree / "train" / "stray.png", 1)
    assert f"{tree / 'train' / 'stray.png'} lies in no class folder" in failure(tree, cache)


def test_a_part_without_class_folders_is_refused(tmp_path, cache):
    (tmp_path / "flat" / "train").mkdir(parents=True)
    (tmp_path / "flat" / "test").mkdir()
    assert "has no class folders" in failure(tmp_path / "flat", cache)


def test_a_damaged_image_is_named_and_nothing_is_cached(tree, cache):
    bad = tree / "test" / "dog" / "z.png"
    save(bad, 3, size=(64, 64))
    bad.write_bytes(bad.read_bytes()[:60])
    assert str(bad) in failure(tree, cache)


def cached(cache: Path) -> list[Path]:
    return sorted((cache / "folders").iterdir())


def test_a_second_read_decodes_nothing(tree, cache, monkeypatch):
    first = read(tree, None, cache)
    assert [path.suffix for path in cached(cache)] == [".npz"]
    monkeypatch.setattr(memory, "decode_and_tell", lambda *_: pytest.fail("decoded again"))
    again = read(tree, None, cache)
    assert np.array_equal(first.train.images.numpy(), again.train.images.numpy())
    assert again.test.labels.tolist() == [0, 1]


def test_a_changed_file_name_time_or_size_setting_is_decoded_again(tree, cache):
    read(tree, None, cache)
    file = tree / "train" / "cat" / "a.png"
    status = file.stat()
    save(file, 200)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read(tree, None, cache).train.images[0, 0, 0, 0] == 200
    read(tree, 4, cache)
    file.rename(file.with_name("aa.png"))
    read(tree, None, cache)
    assert len(cached(cache)) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "fewer", "bare"])
def test_a_corrupt_cache_is_made_again(tree, cache, damage):
    read(tree, None, cache)
    (path,) = cached(cache)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not an npz")
    elif damage == "fewer":
        np.savez(path, images=np.zeros((1, 3, 4, 4), np.uint8))
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    assert read(tree, None, cache).train.images[:, 0, 0, 0].tolist() == [10, 20, 11, 21]
    assert path.read_bytes() == whole
    assert cached(cache) == [path]


def test_a_full_disk_leaves_no_part_of_a_cache_and_the_images_are_still_read(tree, cache, monkeypatch):
    def full(file, **arrays):
        file.write(b"a part of the file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(RuntimeWarning, match="could not be kept in .*No space left"):
        source = read(tree, None, cache)
    assert len(source.train) == 4
    assert cached(cache) == []


def test_more_images_than_one_chunk_keep_their_order(tree, cache, monkeypatch):
    monkeypatch.setattr(verification, "_CHUNK", 3)
    for i in range(8):
        save(tree / "train" / "dog" / f"n{i}.png", 100 + i)
    values = read(tree, None, cache).train.images[:, 0, 0, 0].tolist()
    assert values == [10, 20, 11, 21, *range(100, 108)]
