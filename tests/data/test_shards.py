"""Tar shards: the index, its cache, and every way in which a shard can be wrong."""

import gzip
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import encoded, sample, write_folder, write_shard, write_shards

from nuat.data import shards
from nuat.data.decoding import SUFFIXES
from nuat.data.shards import are_shards, scan
from nuat.errors import InputError


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path):
    """17 training samples in four shards, 6 of evaluation in two."""
    return write_shards(tmp_path / "set", {"train": 17, "val": 6})


def failure(root: Path, cache: Path) -> str:
    with pytest.raises(InputError) as caught:
        scan(root, cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples_come_in_the_order_of_the_shards_with_their_bytes_and_labels(tree, tmp_path, cache):
    parts = scan(tree, cache)
    files = write_folder(tmp_path / "files", {"train": 17, "val": 6})
    assert are_shards(tree)
    assert not are_shards(files)
    assert parts.classes == ("0", "1", "2")
    assert parts.train.labels.tolist() == [i % 3 for i in range(17)]
    for i in range(17):
        (file,) = (files / "train" / "abc"[i % 3]).glob(f"{i:04d}.*")
        assert parts.train.read(i) == file.read_bytes()
    assert parts.train.name(16).startswith(f"{tree}/train/set-000003.tar: 000016.")
    assert len(parts.test) == 6
    assert parts.validation is None
    assert parts.notes == ("there is no test/, so val/ holds the test images",)
    assert parts.description == f"shards {tree}"


def test_val_beside_test_is_the_validation_part(tree, cache):
    write_shards(tree, {"test": 3})
    parts = scan(tree, cache)
    assert parts.validation is not None
    assert (len(parts.validation), len(parts.test)) == (6, 3)


def test_names_come_from_a_file(tree, cache):
    (tree / "classes.txt").write_text("cat\ndog\n\nemu\nfox\n")
    assert scan(tree, cache).classes == ("cat", "dog", "emu", "fox")
    (tree / "classes.txt").write_text("cat\ndog\n")
    message = failure(tree, cache)
    for word in (str(tree / "train/set-000000.tar"), "of class 2", "classes.txt names 2 classes"):
        assert word in message
    (tree / "classes.txt").write_text("cat\ncat\ndog\n")
    assert "'cat' twice" in failure(tree, cache)


@pytest.mark.parametrize("call", ["iterdir", "stat"])
def test_what_cannot_be_looked_at_is_named(tree, cache, monkeypatch, call):
    denied = tree / "val" if call == "iterdir" else tree / "train" / "set-000001.tar"
    original = getattr(Path, call)

    def look(self: Path, **how: bool):
        if self == denied:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, **how)

    monkeypatch.setattr(Path, call, look)
    assert f"{denied} cannot be read (Permission denied)" in failure(tree, cache)


def test_folders_and_other_members_are_passed_over_and_suffixes_may_be_capitals(tmp_path, cache):
    image = encoded("rgb.jpg")
    members = [
        ("some/dir.d/0.json", b"{}"),
        ("some/dir.d/0.cls", b" 1\n"),
        ("some/dir.d/0.JPEG", image),
        ("some/dir.d/1.JPEG", image),
        ("some/dir.d/1.cls", b"1"),
        ("0.seg.png", image),  # of type seg.png
        *sample("0", "grey.jpg", 0, 0),
    ]
    for part in ("train", "test"):
        write_shard(tmp_path / part / "x-0.tar", members)
    parts = scan(tmp_path, cache)
    assert parts.train.labels.tolist() == [1, 1, 0]
    assert [parts.train.name(i).rpartition(" ")[2] for i in range(3)] == [
        "some/dir.d/0.JPEG",
        "some/dir.d/1.JPEG",
        "0.jpg",
    ]
    assert parts.train.read(1) == image


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_in_which_nothing_is_recognised_is_refused_with_what_was_seen(tree, cache, part):
    for shard in (tree / part).iterdir():
        shard.unlink()
    write_shard(tree / part / "set-0.tar", [])
    assert "found nothing" in failure(tree, cache)
    write_shard(tree / part / "set-1.tar", [("000.image.png", b"x"), ("000.label.cls", b"1")])
    write_shard(tree / part / "set-2.tar", [(f"{i}.image.png", b"x") for i in range(9)])
    for _ in range(2):  # the second time from the kept index
        message = failure(tree, cache)
        assert f"{tree / part}: no sample in its shards; expected KEY.cls and KEY.jpg" in message
        assert "found 000.image.png, 000.label.cls, 0.image.png, 1.image.png, ..." in message


def test_members_that_do_not_parse_are_counted_and_named(tree, cache):
    others = [
        ("a.v2.jpg", b"x"),
        ("a.v2.cls", b"1"),
        ("b.v2.jpg", b"x"),
        ("c.json", b"{}"),
        ("readme", b""),
        (".x.jpg", b""),
    ]
    write_shard(tree / "val" / "set-000002.tar", [*others, ("\x1b[31m.json", b"{}"), *sample("ok", "rgb.jpg", 1, 0)])
    (tree / "train" / "notes.txt").write_text("")
    for _ in range(2):  # the second time from the kept index
        parts = scan(tree, cache)
        assert len(parts.test) == 7
        files, members, _ = parts.notes
        assert files == "1 files are passed over: 1 .txt (train/notes.txt)"
        assert members.startswith("6 members of shards are passed over: 2 .jpg with more dots in its name (val/set-0")
        for said in ("1 .cls with more dots in its name", "2 .json (val/set-000002.tar: c.json)", "1 without a suffix"):
            assert said in members


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_of_every_suffix_are_samples(tmp_path, cache, suffix):
    for part in ("train", "test"):
        write_shard(
            tmp_path / "set" / part / "s-0.tar",
            [(f"a{suffix}", b"x"), ("a.cls", b"0"), (f"b{suffix}", b"y"), ("b.cls", b"1")],
        )
    parts = scan(tmp_path / "set", cache)
    assert [parts.train.read(i) for i in range(2)] == [b"x", b"y"]
    assert parts.notes == ()


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz"])
def test_compressed_shards_are_read_as_their_uncompressed_ones(tree, tmp_path, cache, ending):
    plain = scan(tree, cache)
    zipped = tmp_path / "zipped"
    for shard in tree.rglob("*.tar"):
        (zipped / shard.parent.name).mkdir(parents=True, exist_ok=True)
        with gzip.open(zipped / shard.parent.name / f"{shard.stem}{ending}", "wb") as file:
            file.write(shard.read_bytes())
    assert are_shards(zipped)
    for _ in range(2):
        parts = scan(zipped, cache)
        for ours, theirs in ((parts.train, plain.train), (parts.test, plain.test)):
            assert [ours.read(i) for i in range(len(ours))] == [theirs.read(i) for i in range(len(theirs))]
            assert ours.labels.tolist() == theirs.labels.tolist()
    assert parts.train.name(0).startswith(f"{zipped}/train/set-000000{ending}: ")
    cut = zipped / "train" / f"set-000001{ending}"
    cut.write_bytes(cut.read_bytes()[:-30])
    assert f"{cut} is cut short or damaged" in failure(zipped, cache)


@given(number=st.integers(10, 10**20))
def test_a_shard_with_a_huge_number_is_refused_at_once(number):
    with tempfile.TemporaryDirectory() as folder:
        root = write_shards(Path(folder) / "set", {"train": 3, "val": 3})
        (root / "train" / "set-000000.tar").rename(root / "train" / f"set-{number}.tar")
        message = failure(root, Path(folder) / "cache")
    assert "shard set-0" in message
    assert f"is missing (and {number - 1} more) of {number + 1}" in message


HEADERS = [{"size": size} for size in (str(10**30), "1" * 5000, "x", "-5", "-1024", "-1536")]


@pytest.mark.parametrize("header", [*HEADERS, {"mtime": "nan"}])
def test_pax_headers_that_cannot_be_are_one_line(tree, cache, header):
    bad = tree / "train" / "set-000003.tar"
    with tarfile.open(bad, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sample("000", "rgb.jpg", 0, 0):
            entry = tarfile.TarInfo(name)
            entry.size, entry.pax_headers = len(content), header
            tar.addfile(entry, io.BytesIO(content))
    if "mtime" in header:  # which nothing reads
        assert len(scan(tree, cache).train) == 16
    else:
        assert str(bad) in failure(tree, cache)


def test_a_member_that_leads_back_to_itself_is_refused(tree, cache):
    bad = tree / "train" / "set-000003.tar"
    with tarfile.open(bad, "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a.json")
        entry.pax_headers = {"size": "-1536"}  # its two headers and the content of the first
        tar.addfile(entry)
    assert f"{bad}: a.json has a negative size" in failure(tree, cache)


def test_a_byte_order_mark_is_no_part_of_a_class(tree, cache):
    (tree / "classes.txt").write_text("\ufeffcat\ndog\nfox\n", encoding="utf-8")
    assert scan(tree, cache).classes == ("cat", "dog", "fox")


def test_a_test_part_alone_is_enough_to_evaluate(tree, cache):
    whole = scan(tree, cache)
    shutil.rmtree(tree / "train")
    assert are_shards(tree)
    assert "val/ but no train/" in failure(tree, cache)
    parts = scan(tree, cache, needs_train=False)
    assert (len(parts.train), parts.classes) == (0, whole.classes)
    assert [parts.test.read(i) for i in range(6)] == [whole.test.read(i) for i in range(6)]


def test_names_that_are_not_text_for_a_terminal_are_escaped(tree, cache):
    (tree / "classes.txt").write_text("cat\x1b[31m\ndog\nfox\n", encoding="utf-8")
    write_shard(tree / "val" / "set-000002.tar", [(os.fsdecode(b"\xff\x1b.txt"), b"")])
    parts = scan(tree, cache)
    assert parts.classes[0] == r"cat\x1b[31m"
    assert all(note.isprintable() for note in parts.notes)
    assert r"\udcff\x1b.txt" in parts.notes[0]


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "sparse"])
def test_members_whose_bytes_are_not_in_place_are_passed_over(tree, cache, kind):
    types = {"symbolic link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "sparse": tarfile.REGTYPE}
    with tarfile.open(tree / "val" / "set-000002.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.png", "a.cls"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = types[kind], 0 if "link" in kind else 2
            entry.linkname = "000000.png" * ("link" in kind)
            entry.pax_headers = {} if "link" in kind else {"GNU.sparse.map": "0,2"}
            tar.addfile(entry, io.BytesIO(b"1\n"))
    parts = scan(tree, cache)
    assert len(parts.test) == 6
    assert "set-000002.tar: a.png" in parts.notes[0]


def test_names_of_classes_that_are_not_utf_8_are_refused(tree, cache):
    (tree / "classes.txt").write_bytes(b"caf\xe9\ndog\nfox\n")
    assert f"{tree / 'classes.txt'} is not UTF-8 text; write the name of one class per line." in failure(tree, cache)


@pytest.mark.parametrize("number", [0, 2])
def test_a_missing_shard_is_named(tree, cache, number):
    (tree / "train" / f"set-{number:06d}.tar").unlink()
    message = failure(tree, cache)
    assert f"shard set-{number:06d}.tar is missing of 4" in message
    assert str(tree / "train") in message


def test_several_missing_shards_are_counted(tree, cache):
    for number in (1, 2):
        (tree / "train" / f"set-{number:06d}.tar").unlink()
    assert "shard set-000001.tar is missing (and 1 more) of 4" in failure(tree, cache)


def test_names_that_are_not_of_shards_or_not_of_one_set_are_refused(tree, cache):
    first = tree / "train" / "set-000000.tar"
    for name, word in (("n01440764.tar", "not called as shards are"), ("other-000000.tar", "those of other and set")):
        copy = first.with_name(name)
        copy.write_bytes(first.read_bytes())
        assert word in failure(tree, cache)
        copy.unlink()
    (tree / "train" / "set-01.tar").write_bytes(first.read_bytes())
    assert "has the number of set-000001.tar" in failure(tree, cache)


def test_a_folder_without_evaluation_shards_is_refused(tree, cache):
    for file in (tree / "val").iterdir():
        file.unlink()
    assert f"{tree / 'val'}: expected shards NAME-000000.tar" in failure(tree, cache)
    (tree / "val").rmdir()
    assert "neither test/ nor val/" in failure(tree, cache)


@pytest.mark.parametrize("left", ["a quarter", "a member's data", "no end", "nothing", "text"])
def test_a_truncated_or_unreadable_shard_is_named(tree, cache, left):
    path = tree / "train" / "set-000001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    end = members[-1].offset_data + 512
    cut = {
        "a quarter": whole[: len(whole) // 4],
        "a member's data": whole[: members[4].offset_data + 100],
        "no end": whole[:end],
        "nothing": b"",
        "text": b"no tar file" * 1000,
    }[left]
    path.write_bytes(cut)
    message = failure(tree, cache)
    assert str(path) in message
    assert "copy it again" in message


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tree, cache):
    path = tree / "train" / "set-000001.tar"
    with tarfile.open(path) as tar:
        place = tar.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[place : place + 100] = b"\xff" * 100
    path.write_bytes(content)
    assert f"{path} is damaged after" in failure(tree, cache)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("7.jpg", b"x")], ("sample 7", "no class (a member .cls)")),
        ([("7.cls", b"1")], ("sample 7", "no image (.jpg")),
        ([("7.jpg", b"x"), ("7.cls", b"one")], ("7.cls holds b'one'", "number of the class")),
        ([("7.jpg", b"x"), ("7.cls", b"")], ("7.cls holds b''",)),
        ([("7.jpg", b"x"), ("7.png", b"x"), ("7.cls", b"1")], ("sample 7 has two images",)),
        ([("7.jpg", b"x"), ("7.cls", b"1"), ("7.CLS", b"1")], ("sample 7 has two classes",)),
        ([("7.jpg", b"x"), ("8.cls", b"1")], ("sample 7", "no class")),
        ([("7.jpg", b"x"), ("7.cls", b"-1")], ("7.jpg is of class -1",)),
        ([("7.jpg", b"x"), ("7.cls", b"9")], ("labels up to 9 but no image of class 3",)),
    ],
)
def test_a_sample_that_is_not_whole_is_named_with_its_shard(tree, cache, members, words):
    write_shard(tree / "train" / "set-000004.tar", [*sample("6", "rgb.jpg", 0, 0), *members])
    message = failure(tree, cache)
    for word in words:
        assert word in message
    assert str(tree) in message
    if "up to" not in message:
        assert "set-000004.tar" in message


def test_an_evaluation_class_that_training_lacks_is_named(tree, cache):
    write_shard(tree / "val" / "set-000002.tar", sample("a", "rgb.jpg", 5, 0))
    message = failure(tree, cache)
    for word in (str(tree / "val/set-000002.tar"), "of class 5", "training shards have 3 classes"):
        assert word in message


def test_a_second_scan_reads_no_header(tree, cache, monkeypatch):
    first = scan(tree, cache)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_samples", lambda _: pytest.fail("indexed again"))
        again = scan(tree, cache)
    assert [again.train.name(i) for i in range(17)] == [first.train.name(i) for i in range(17)]
    assert again.train.labels.tolist() == first.train.labels.tolist()
    write_shard(tree / "train" / "set-000004.tar", sample("new", "rgb.jpg", 1, 0))
    assert len(scan(tree, cache).train) == 18


@pytest.mark.parametrize("damage", ["cut", "empty", "fewer"])
def test_a_corrupt_index_is_made_again(tree, cache, damage):
    scan(tree, cache)
    for path in (cache / "shards").iterdir():
        if damage == "fewer":
            with np.load(path) as file:
                arrays = dict(file)
            np.savez(path, **{**arrays, "labels": arrays["labels"][:-1]})
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    assert scan(tree, cache).train.labels.tolist() == [i % 3 for i in range(17)]


def test_a_read_that_comes_in_pieces_is_gone_on_with(tree, cache, monkeypatch):
    class Pieces(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

        def readinto(self, buffer) -> int:
            return super().readinto(memoryview(buffer)[:100])

    def opened(path: Path, mode: str, buffering: int = -1):
        return Pieces(path, mode) if buffering == 0 else io.BufferedReader(Pieces(path, mode))

    parts = scan(tree, cache)
    whole = [parts.train.read(i) for i in range(17)]
    assert max(map(len, whole)) > 1000
    monkeypatch.setattr(Path, "open", opened)
    assert [parts.train.read(i) for i in range(17)] == whole


def test_a_shard_that_vanishes_or_shrinks_is_named_when_it_is_read(tree, cache):
    parts = scan(tree, cache)
    shard = tree / "train" / "set-000003.tar"
    shard.write_bytes(b"")
    with pytest.raises(InputError, match=r"set-000003\.tar: 000016.* shorter than it was"):
        parts.train.read(16)
    shard.unlink()
    with pytest.raises(InputError, match=r"set-000003\.tar: 000015.* cannot be read \(No such file"):
        parts.train.read(15)
    assert parts.train.read(0)
