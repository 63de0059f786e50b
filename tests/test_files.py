"""Files are written whole: on every way of failing the old file stays and nothing is left beside it."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from nuat.errors import InputError
from nuat.files import atomic_write, check_writable, writable, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_once_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["weights.bin"]


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "run" / "weights.bin"):
        pass
    assert caught.value.filename == str(tmp_path / "run" / "weights.bin")
    assert names(tmp_path) == []


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_failing_in_the_middle(tmp_path: Path, existed: bool, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    if existed:
        path.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"ne")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == (["a.bin"] if existed else [])
    assert not existed or path.read_bytes() == b"old"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_the_bytes_are_on_the_disk_before_the_name_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, path.exists())))
    write_text(path, "four")
    assert synced == [(4, False)]
    assert path.read_text() == "four"


def test_a_name_that_cannot_be_taken(tmp_path: Path) -> None:
    (tmp_path / "a" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        write_text(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_umask_allows(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "new")
        left = os.umask(mask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert left == mask


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "‖A‖ = Σσ\n")
    assert (tmp_path / "a.txt").read_bytes() == "‖A‖ = Σσ\n".encode()


def test_places_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "folder", "--out")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .*: file is a file, not a folder; choose another --out"):
        check_writable(tmp_path / "file" / "below", "--out")
    with pytest.raises(InputError, match=r"--out .*: cannot be written \(File name too long\)"):
        check_writable(tmp_path / ("a" * 300), "--out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not writable(tmp_path)
    with pytest.raises(InputError, match=r"--out .*: nothing can be written in "):
        check_writable(tmp_path / "new", "--out")


def test_json_keeps_lists_of_numbers_on_a_line_and_texts_as_they_are(tmp_path: Path) -> None:
    values = {"interval": [-1e-19, 0.5], "name": "a [b,  c]\n [1,\n  2 ]", "rows": [[1, None], ["x", "y"], [], [True]]}
    write_json(tmp_path / "a.json", values)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == values
    for line in ('"interval": [-1e-19, 0.5],', "[1, null],", "[],", "[true]"):
        assert line in [row.strip() for row in text.splitlines()]


def test_json_without_a_number_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")], allow_nan=False)
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == ["a.json"]
