"""Values of records, one by one: each guard of the reader has its case."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from nuat.config import ModelConfig, ThreatConfig
from nuat.errors import InputError
from nuat.records.checkpoints import WeightsInfo
from nuat.records.json_values import LARGEST, Amount, Count, Fraction, check, parse_object, read_object, settings_object


def refusal(act: Any, *arguments: Any, **more: Any) -> str:
    """Return why a value is refused, in one printable line."""
    with pytest.raises(InputError) as caught:
        act(*arguments, **more)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "a: "),
        ('{"a": Infinity}', "a: "),
        ('{"a": -Infinity}', "a: "),
        ('{"a": 1e999}', "a: "),
        ('{"a": 9223372036854775808}', "too large a number"),
        ('{"a": -9223372036854775809}', "too large a number"),
        ('{"a": ' + "9" * 5000 + "}", "too large a number"),
        ('{"a": ' * 5000, "nested too deeply"),
        ('{"a": ' + "[" * 51 + "]" * 51 + "}", "nested too deeply"),
        ("{", "not JSON, or cut off"),
        ("[1]", "expected a JSON object; it holds [1]"),
        ("3", "expected a JSON object"),
        ("", "not JSON"),
    ],
)
def test_text_that_is_no_record(text: str, says: str) -> None:
    said = refusal(parse_object, text, "a")
    assert said.startswith("a: ")
    assert says in said


def test_the_largest_numbers_and_depth_are_read() -> None:
    assert parse_object(f'{{"a": {LARGEST}, "b": {-LARGEST}, "c": 1e308}}', "a") == {
        "a": LARGEST,
        "b": -LARGEST,
        "c": 1e308,
    }
    assert parse_object('{"a": ' + "[" * 49 + "]" * 49 + "}", "a")["a"] != []


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\\u0000", "\\x00"),
        ("\\u001b[31m", "\\x1b[31m"),
        ("\\u009b", "\\x9b"),
        ("\\u202e", "\\u202e"),
        ("\\u2028", "\\u2028"),
        ("\\u2066", "\\u2066"),
        ("\\ud800", "\\ud800"),
        ("\\uffff", "\\uffff"),
        ("\\u007f", "\\x7f"),
    ],
)
def test_characters_that_no_page_takes_are_made_visible(hidden: str, shown: str) -> None:
    found = parse_object(f'{{"a{hidden}": ["b{hidden}", {{"c": "{hidden}"}}]}}', "a")
    assert found == {f"a{shown}": [f"b{shown}", {"c": shown}]}
    assert parse_object('{"a": "line\\nend\\t\\u00e9"}', "a") == {"a": "line\nend\t\u00e9"}


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refusal(read_object, tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b'\xff{"a": 1}')
    assert "not UTF-8 text" in refusal(read_object, tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')  # a byte-order mark
    assert read_object(tmp_path / "a.json") == {"a": 1}
    assert "cannot be read (Is a directory)" in refusal(read_object, tmp_path)


class Shape(TypedDict):
    n: Count
    kind: Literal["a", 1]
    share: NotRequired[Fraction | None]


GOOD: list[tuple[Any, Any]] = [
    (Count, 0),
    (Count, LARGEST),
    (Fraction, 1),
    (Fraction, 0.0),
    (Amount, 1e300),
    (bool, True),
    (str, ""),
    (Any, [None]),
    (float | None, None),
    (list[int], [1, 2]),
    (dict[str, str | None], {"a": None}),
    (Literal["a", 1], 1),
    (dict, {"a": 1}),
    (Shape, {"n": 1, "kind": "a", "more": 3}),
    (Shape, {"n": 1, "kind": 1, "share": None}),
]
BAD: list[tuple[Any, Any, str]] = [
    (Count, -1, "x: expected a whole number of at least 0; it is -1."),
    (Annotated[int, (1, 3)], 4, "at least 1 and at most 3; it is 4"),
    (Fraction, 1.5, "at most 1.0; it is 1.5"),
    (Count, True, "expected a whole number; it is True"),
    (float, False, "expected a number; it is False"),
    (Count, 1.0, "expected a whole number; it is 1.0"),
    (bool, 1, "expected true or false; it is 1"),
    (str, 3, "expected text; it is 3"),
    (str, None, "expected text; it is None"),
    (float | None, "a", "expected a number"),
    (list[int], {}, "x: expected a list"),
    (list[int], [1, "a"], "x[1]: expected a whole number"),
    (dict[str, int], {"a": 1, "b": []}, "x.b: expected a whole number"),
    (dict[str, int], 3, "x: expected an object"),
    (Literal["a", 1], "b", "expected 'a' or 1; it is 'b'"),
    (Literal["a", 1], 1.0, "expected 'a' or 1; it is 1.0"),
    (Literal["a", 1], True, "expected 'a' or 1; it is True"),
    (Shape, {"n": 1}, "x: lacks 'kind'"),
    (Shape, [], "x: expected an object"),
    (Shape, {"n": 1, "kind": 1, "share": 2}, "x: share: expected a number"),
]


@pytest.mark.parametrize(("hint", "value"), GOOD)
def test_a_value_of_its_type_is_returned(hint: Any, value: Any) -> None:
    assert check(hint, value, "x") is value


@pytest.mark.parametrize(("hint", "value", "says"), BAD)
def test_a_value_of_another_type_is_named(hint: Any, value: Any, says: str) -> None:
    assert says in refusal(check, hint, value, "x")


def test_a_long_value_is_shortened_in_the_error() -> None:
    assert len(refusal(check, int, "a" * 10_000, "x")) < 200
    assert len(refusal(check, dict[str, int], {"a" * 10_000: "b"}, "x")) < 200


INFO = {
    "channels": 3,
    "image_size": [8, 8],
    "classes": ["a", "b"],
    "recipe": "r",
    "epoch": 1,
    "averaged": False,
    "data": "d",
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"odd": 1}, "x: 'odd' is unknown to this version of nuat"),
        ({"model": {}}, "'model' is unknown"),
        ({"channels": "3"}, "x: channels: expected a whole number"),
        ({"image_size": [8]}, "x: image_size: expected 2 values"),
        ({"classes": [1]}, "x: classes[0]: expected text"),
        ({"channels": None}, "x: channels: expected a whole number"),
    ],
)
def test_metadata_that_make_no_object(change: dict[str, Any], says: str) -> None:
    parts = {"model": ModelConfig(), "threat": ThreatConfig()}
    assert settings_object(WeightsInfo, INFO, "x", **parts).image_size == (8, 8)
    assert says in refusal(settings_object, WeightsInfo, INFO | change, "x", **parts)


def test_metadata_that_lack_a_value_or_are_refused() -> None:
    parts = {"model": ModelConfig(), "threat": ThreatConfig()}
    lacking = {name: value for name, value in INFO.items() if name != "recipe"}
    assert "x: missing 1 required keyword-only argument: 'recipe'" in refusal(
        settings_object, WeightsInfo, lacking, "x", **parts
    )
    assert "x: threat.eps=2: pixels are in [0, 1]" in refusal(settings_object, ThreatConfig, {"eps": 2.0}, "x")
    assert "x: expected an object" in refusal(settings_object, ThreatConfig, [], "x")
    assert math.isclose(settings_object(ThreatConfig, {"eps": 0.1}, "x").eps, 0.1)
