"""Records go to JSON and back; damaged ones are refused by name."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from figures.figure_records import RECORDS

from nuat.errors import InputError
from nuat.figures.catalogue import FIGURES, read
from nuat.figures.cost import Cost


@pytest.mark.parametrize("kind", FIGURES)
def test_a_record_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    RECORDS[kind].save(path)
    again = read(path)
    assert again == RECORDS[kind]
    assert type(again) is FIGURES[kind].record
    assert json.loads(path.read_text())["kind"] == kind


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    odd = dataclasses.replace(RECORDS["cost"], eps=math.nan)
    odd.save(tmp_path / "r.json")
    again = read(tmp_path / "r.json")
    assert isinstance(again, Cost)
    assert again.eps is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "other"}, "not a record of 'nuat analyse'"),
        ({"format": 99}, "has format 99"),
        ({"attack": 3}, "cost.attack: expected text, got 3"),
        ({"attack": True}, "cost.attack: expected text, got True"),
        ({"points": {}}, "cost.points: expected a list, got {}"),
        ({"points": [{"method": "A"}]}, "cost.points: its fields"),
        ({"more": 1}, "they differ in .'more'."),
    ],
)
def test_a_wrong_record_is_said(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**RECORDS["cost"].to_json(), **change}))
    with pytest.raises(InputError, match=told) as refused:
        read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"cost"'])
def test_what_is_no_record_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: not"):
        read(tmp_path / "r.json")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.json")
