"""Places that ``nuat report`` does not write to."""

import errno
from pathlib import Path

import pytest
from figure_models import write_run

from nuat.commands.report import report
from nuat.errors import InputError

FOUND = {"clean": 0.9, "pgd-100": 0.6}


def test_a_file_of_the_users_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    run, kept = write_run(tmp_path / "a", accuracies=FOUND), tmp_path / "kept.csv"
    kept.write_text("mine")
    with pytest.raises(InputError, match="exists; choose another --out"):
        report([str(run), "--out", str(kept)])
    assert kept.read_text() == "mine"


def test_a_place_that_cannot_be_written_to_is_found_before_the_records_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, option: str) -> None:
        raise InputError(f"{option} {folder}: no permission to write there")

    monkeypatch.setattr("nuat.commands.report.check_writable", refuse)
    with pytest.raises(InputError, match="no permission to write there"):
        report([str(tmp_path / "no-run"), "--out", str(tmp_path / "new.csv")])


def test_a_full_disk_is_no_mistake_in_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = write_run(tmp_path / "a", accuracies=FOUND)
    monkeypatch.setattr("nuat.commands.report.write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        report([str(run), "--out", str(tmp_path / "new.csv")])


def test_a_place_that_can_no_longer_be_written_to_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    run = write_run(tmp_path / "a", accuracies=FOUND)
    monkeypatch.setattr("nuat.commands.report.write_text", fail)
    with pytest.raises(
        InputError, match=r"new\.csv: cannot be written \(Read-only file system\); choose another --out"
    ):
        report([str(run), "--out", str(tmp_path / "new.csv")])
