"""Damaged records of a run: refused in one line that names the file, or left out and named in the run's record."""

import json
from pathlib import Path
from typing import Any

import pytest
from figure_models import write_row, write_run

from nuat.errors import InputError
from nuat.records.runs import read_run


def change(path: Path, **changes: Any) -> None:
    """Set entries of a JSON record; None: remove it."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"forwards": "many"}, "forwards"),
        ({"seed": "first"}, "seed"),
        ({"status": None, "eps": "wide"}, "eps"),
        ({"status": "failed", "reason": 3}, "reason"),
    ],
)
def test_a_damaged_row_is_one_line(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = write_row(tmp_path / "a", "A")
    assert read_run(folder).label == "A"
    change(folder / "row.json", **changes)
    with pytest.raises(InputError, match=rf"^{folder}: row\.json: .*{says}.*; .*[Rr]emove") as refused:
        read_run(folder)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("config.json", {"recipe": 3}, "recipe"),
        ("environment.json", {"hardware": 3}, "hardware"),
    ],
)
def test_a_damaged_record_is_one_line(name: str, changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    assert read_run(folder).recipe == "ours"
    change(folder / name, **changes)
    with pytest.raises(InputError, match=rf"{name}: .*{says}"):
        read_run(folder)


def test_a_damaged_diagnosis_and_damaged_weights_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "diagnosis.json").write_text('{"verdicts": 3}')
    (folder / "best.safetensors").write_bytes(b"\x1b[31m")
    run = read_run(folder)
    assert run.diagnosis is None
    assert run.weights is None
    diagnosis, weights = run.damaged
    assert "diagnosis.json: " in diagnosis
    assert weights.startswith("best.safetensors cannot be read: ")


def test_a_reason_with_escapes_is_printable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise InputError(f"{path}: holds \x1b[31m")

    folder = write_run(tmp_path / "a")
    (folder / "best.safetensors").touch()
    monkeypatch.setattr("nuat.records.runs.read_info", refuse)
    (told,) = read_run(folder).damaged
    assert told.isprintable()
    assert told.startswith("best.safetensors cannot be read: holds ")
