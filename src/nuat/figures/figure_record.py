"""Records of figures: frozen dataclasses of numbers and settings that go to JSON and back.

A figure is drawn from its record alone, so it can be drawn again without the model, the images or a GPU.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from nuat.errors import InputError
from nuat.files import write_json

_FORMAT = 1
_EXPECTED = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list", dict: "an object",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FigureRecord:
    """Base of the records. A subclass names its ``kind`` and its fields.

    A field holds a number, a flag, a string, None, a tuple, a dictionary with string keys, or a dataclass of these.
    """

    kind: ClassVar[str]
    """Name of the figure, on the command line and in the names of its files."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values. Numbers that JSON lacks (NaN, infinity) become null."""
        return {"format": _FORMAT, "kind": self.kind, **_encode(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the record that ``to_json`` wrote.

        Raises:
            InputError: another kind or format, or other fields than this version has.
        """
        if values.get("kind") != cls.kind:
            raise InputError(f"holds {values.get('kind')!r}, not {cls.kind!r}.")
        if values.get("format") != _FORMAT:
            raise InputError(f"has format {values.get('format')!r}; this version of nuat reads {_FORMAT}.")
        fields = {name: value for name, value in values.items() if name not in ("format", "kind", "figure")}
        record: Self = _decode(cls, fields, cls.kind)
        return record

    def save(self, path: Path, *, figure: str = "") -> None:
        """Write the record to ``path`` as JSON, whole, each list of numbers on one line.

        Args:
            path: the file.
            figure: pinned name of a figure of the user's own. Empty: one of nuat's.
        """
        values = self.to_json() | ({"figure": figure} if figure else {})
        write_json(path, values, allow_nan=False)


def require(holds: bool, expected: str) -> None:
    """Refuse values of a record that do not belong together.

    Raises:
        InputError: the condition does not hold; ``expected`` says what was expected.
    """
    if not holds:
        raise InputError(f"its values do not belong together: expected {expected}.")


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Name and weights of a model in a figure."""

    name: str
    """Name in the figure."""
    weights_sha256: str
    """SHA-256 of the weights file; for a model from a Python file, of its tensors in order."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord(FigureRecord):
    """Base of the records that models were run for."""

    n: int
    """Number of test images."""
    seed: int
    """Seed of the random draws."""
    eps: float
    """Radius of the Linf ball, in pixels of [0, 1]."""
    images_sha256: str
    """SHA-256 of the images and their labels, in order, as in an evaluation."""
    hardware: str
    """Device that it was measured on."""
    versions: dict[str, str | None]
    """Versions of nuat and of the packages that numbers depend on."""

    def __post_init__(self) -> None:
        require(self.n >= 1 and self.eps > 0, "n >= 1 and eps > 0")


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _encode(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return the JSON ``value`` as an instance of the type ``hint``; ``where`` names its place in errors."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _decode_fields(hint, value, where)
    if origin is types.UnionType:  # X | None
        kept = [kind for kind in inner if kind is not type(None)]
        return None if value is None else _decode(kept[0], value, where)
    if origin is tuple and isinstance(value, list):
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise InputError(f"{where}: expected {len(inner)} values, got {len(value)}.")
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_decode(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {name: _decode(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    # in Python a bool is an int
    if isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise InputError(f"{where}: expected {_EXPECTED[origin or hint]}, got {_short(value)}.")


def _decode_fields(kind: Any, value: Any, where: str) -> Any:
    fields = dataclasses.fields(kind)
    names = {field.name for field in fields}
    # a field with a default is younger than some records
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not isinstance(value, dict) or not needed <= set(value) <= names:
        odd = sorted((needed - set(value)) | (set(value) - names)) if isinstance(value, dict) else _short(value)
        raise InputError(f"{where}: its fields are not those of this version of nuat; they differ in {odd}.")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _decode(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
