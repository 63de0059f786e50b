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
    path = tmp_path / "record.json"
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


def test_a_record_older_than_a_field_with_a_default_is_read(tmp_path: Path) -> None:
    older = RECORDS["confusion"].to_json()
    for name in ("steps", "step_size", "base"):
        del older[name]
    (tmp_path / "r.json").write_text(json.dumps(older))
    again = read(tmp_path / "r.json")
    assert again == dataclasses.replace(RECORDS["confusion"], steps=1, step_size=None, base="e")


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


def test_a_record_of_another_kind_is_not_read_as_this_one() -> None:
    with pytest.raises(InputError, match="holds 'training', not 'cost'"):
        Cost.from_json(RECORDS["training"].to_json())


def test_a_list_of_another_length_is_said() -> None:
    values = RECORDS["corruptions"].to_json()
    values["models"][0]["clean"] = [0.5, 0.4]
    with pytest.raises(InputError, match=r"models\.clean: expected 3 values, got 2"):
        type(RECORDS["corruptions"]).from_json(values)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"cost"'])
def test_what_is_no_record_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: (not JSON|expected a JSON object)"):
        read(tmp_path / "r.json")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        *(
            (kind, ("eps",), 0.0)
            for kind in ("loss-surface", "confusion", "nuclear-profile", "eps-curve", "steps-curve")
        ),
        ("loss-surface", ("models",), []),
        ("loss-surface", ("distances",), [0.0, 0.0, 0.0]),
        ("loss-surface", ("models", 1, "loss", 0), [1.0]),
        ("loss-surface", ("models", 0, "roughness"), []),
        ("confusion", ("classes",), ["cat"]),
        ("confusion", ("attacks",), []),
        ("confusion", ("attacks", 0, "norm"), "spectral"),
        ("confusion", ("attacks", 1, "matrix", 0), [0, 0]),
        ("confusion", ("attacks", 1, "entropy"), [0.5]),
        ("confusion", ("base",), "2"),
        ("confusion", ("attacks", 0, "matrix"), [[1, 1]]),
        ("class-accuracy", ("models", 0, "n", 0), 0),
        ("class-accuracy", ("models", 0, "correct"), [1]),
        ("class-accuracy", ("models", 0, "correct", 0), 10**6),
        ("class-accuracy", ("models", 0, "matrix", 0), [1]),
        ("class-accuracy", ("models", 0, "matrix"), [[1, 1, 1]]),
        (
            "class-accuracy",
            ("models", 0),
            {"name": "", **{key: [] for key in ("classes", "n", "clean", "correct", "matrix")}},
        ),
        ("calibration", ("models", 0, "diagrams", 0, "n"), [1]),
        ("calibration", ("models", 0, "diagrams", 0, "n", 0), -1),
        ("corruptions", ("n",), 0),
        ("corruptions", ("models", 1, "points"), dict.fromkeys(("mean", "fog"), [[0.5, 0.4, 0.6]] * 5)),
        ("corruptions", ("models", 0, "points", "mean"), [[0.5, 0.4, 0.6]]),
        *(
            (
                "corruptions",
                ("models",),
                [{"name": "", "clean": [0.5, 0.4, 0.6], "points": dict.fromkeys(there, [[0.5, 0.4, 0.6]] * 5)}],
            )
            for there in (("mean", "rain"), ("mean",), ("fog",))
        ),
        ("nuclear-profile", ("n",), 0),
        ("nuclear-profile", ("batch_size",), 0),
        ("nuclear-profile", ("models", 0, "robust_images"), 9),
        ("cost", ("points", 0, "accuracy"), 20.0),
        ("cost", ("points", 0, "seconds"), -1.0),
        ("cost", ("points", 0, "n"), 0),
        ("cost", ("baseline",), "none of them"),
        ("lambda-sweep", ("points", 0, "clean"), -0.5),
        ("lambda-sweep", ("points", 0, "n_clean"), 0),
        ("eps-curve", ("radii",), [0.0]),
        ("eps-curve", ("models", 0, "correct", 0), "1111111"),
        ("eps-curve", ("models", 0, "correct", 1), "1111111"),
        ("eps-curve", ("models", 0, "correct"), ["1111111x", "11110000"]),
        ("steps-curve", ("models", 0, "correct"), []),
        ("eps-curve", ("models",), []),
        ("steps-curve", ("n",), 7),
        ("training", ("runs",), []),
        ("training", ("runs", 0, "series", "lr"), [0.1]),
        ("training", ("runs", 0, "switches"), []),
    ],
)
def test_values_that_do_not_belong_together_are_refused(
    kind: str, place: tuple[str | int, ...], value: Any, tmp_path: Path
) -> None:
    values = json.loads(json.dumps(RECORDS[kind].to_json()))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"r\.json: its values do not belong together: expected"):
        read(tmp_path / "r.json")
