"""The files of a run: what may be begun, removed, or read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nuat.errors import InputError
from nuat.recipes import RECIPES
from nuat.records.folder import RunFolder
from nuat.records.settings import write_config

CONFIG = RECIPES["quickstart"]()


def failing(error: OSError) -> Any:
    def fail(*arguments: object, **options: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "says"),
    [("iterdir", "no permission to read it"), ("mkdir", "no permission to write")],
)
def test_a_place_without_permission_is_refused(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"pathlib.Path.{name}", failing(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match=says):
        RunFolder(tmp_path).create()


def test_the_lock_does_not_make_a_folder_anew_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match="run: was removed"), folder.locked():
        pass
    folder.path.mkdir()

    def too_late(*_: object, **__: object) -> None:
        folder.path.rmdir()
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("nuat.records.folder.FileLock.acquire", too_late)
    with pytest.raises(InputError, match="run: was removed"), folder.locked():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_lost_its_settings_is_not_written_to(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_config(folder.config, CONFIG, "quickstart")
    folder.check_there()
    folder.config.unlink()
    with pytest.raises(InputError, match="was removed or moved while a run was writing"):
        folder.check_there()


def test_parts_of_a_runs_files_alone_are_cleared(tmp_path: Path) -> None:
    for name in (".metrics.jsonl.abc.tmp", ".best.safetensors.x.tmp", ".mine.abc.tmp", "metrics.jsonl.tmp"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).clear_cut_off()
    assert {path.name for path in tmp_path.iterdir()} == {".mine.abc.tmp", "metrics.jsonl.tmp"}


def test_a_start_of_other_settings_is_not_cleared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_config(folder.config, CONFIG, "quickstart")
    with pytest.raises(InputError, match=r"begun with epochs=30, not 3"):
        folder.clear_start(replace(CONFIG, epochs=3))
    assert folder.config.is_file()
    folder.clear_start(CONFIG)
    assert not folder.config.exists()


@pytest.mark.parametrize("line", ['{"kind": "end"', '{"kind": "alarm", "stop": true', "{", '{"kind": 3}'])
def test_a_run_that_has_ended_or_cannot_be_read_is_not_cleared(line: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_config(folder.config, CONFIG, "quickstart")
    more = {
        '{"kind": "end"': {"epochs": 1, "best_epoch": 1, "forwards": 1, "backwards": 1, "seconds": 1.0},
        '{"kind": "alarm", "stop": true': {"monitor": "collapse", "epoch": 1},
    }.get(line)
    folder.metrics.write_text((line + ", " + json.dumps(more)[1:] if more else line) + "\n")
    folder.clear_start(CONFIG)
    assert folder.config.is_file()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\n", "metrics.jsonl: not UTF-8 text"),
        (b'{"kind": "start"}\n{"kind": 3}\n', "line 2: kind: expected text; it is 3"),
        (b'{"a": 1}\n', "line 1: kind: expected text; it is None"),
        (
            b'{"kind": "alarm", "monitor": "collapse", "epoch": 0}\n',
            "epoch: expected a whole number of at least 1",
        ),
        (b'{"kind": "end", "epochs": 1}\n', "line 1: lacks 'backwards'"),
        (b"[]\n", "line 1: expected a JSON object"),
    ],
)
def test_damaged_metrics_are_named_with_their_line(content: bytes, says: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_bytes(content)
    with pytest.raises(InputError, match=says):
        folder.read_metrics()


def test_metrics_without_permission_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.touch()
    monkeypatch.setattr("pathlib.Path.read_text", failing(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be read \(Permission denied\)"):
        folder.read_metrics()


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append({"kind": "step", "loss": float("nan"), "terms": {"ce": float("inf"), "reg": 0.5}})
    line = json.loads(folder.metrics.read_text())
    assert (line["loss"], line["terms"]) == (None, {"ce": None, "reg": 0.5})
