"""JSON records, checked once against types where they are read, so that nothing later meets a wrong value."""

import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from nuat.errors import InputError, printable

T = TypeVar("T")

LARGEST = 2**63 - 1
"""Whole numbers beyond this fit no tensor; no record holds one."""
Count = Annotated[int, (0, LARGEST)]
"""A number of things, from 0."""
Positive = Annotated[int, (1, LARGEST)]
"""A number of things, from 1."""
Fraction = Annotated[float, (0.0, 1.0)]
"""A number in [0, 1]."""
Amount = Annotated[float, (0.0, math.inf)]
"""A number >= 0, such as seconds."""
_DEEPEST = 50
"""Levels of lists and objects that a record may have."""
_HIDDEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff\\ufffe\\uffff]")
"""Control characters, marks that reverse the direction of text, lone surrogates, and noncharacters."""


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, control characters in its text made visible.

    Raises:
        InputError: the file is missing, may not be read, or holds no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not JSON (not UTF-8 text).") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return parse_object(text, str(path))


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object in a text; ``where`` is what error messages call it.

    Raises:
        InputError: not JSON, not an object, nested too deeply, or with a number that is infinite, NaN or too large.
    """
    try:
        values = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_moderate)
        if isinstance(values, dict):
            found: dict[str, Any] = _visible(values, _DEEPEST)
            return found
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply for a record.") from None
    except ValueError:
        raise InputError(f"{where}: not JSON, or cut off.") from None
    raise InputError(f"{where}: expected a JSON object; it holds {_short(values)}.")


def check(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` if it is what the type ``hint`` says.

    A TypedDict names the keys that are needed; further keys pass unchecked. ``Annotated[int, (low, high)]`` bounds a
    number, both ends included.

    Args:
        hint: bool, int, float, str, None, Any, Literal, Annotated, a union, list, dict or TypedDict of these.
        value: as JSON has it.
        where: the name of the value in error messages.

    Raises:
        InputError: the value is something else; the place is named.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Annotated, NotRequired):
        check(inner[0], value, where)
        if origin is Annotated and not inner[1][0] <= value <= inner[1][1]:
            raise InputError(f"{where}: expected {_text(hint)}; it is {_short(value)}.")
    elif origin in (Union, types.UnionType):
        if value is not None or types.NoneType not in inner:
            kinds = [kind for kind in inner if kind is not types.NoneType]
            lists = [kind for kind in kinds if get_origin(kind) is list]
            if lists and isinstance(value, list):
                return check(lists[0], value, where)
            return check(float if float in kinds else kinds[0], value, where)  # a float may be a whole number, too
    elif is_typeddict(hint):
        _check_keys(hint, check(dict, value, where), where)
    elif origin is list:
        for i, item in enumerate(check(list, value, where)):
            check(inner[0], item, f"{where}[{i}]")
    elif origin is dict:
        for name, item in check(dict, value, where).items():
            check(inner[1], item, f"{where}.{_short(name, quote=False)}")
    elif origin is Literal:
        if not any(value == item and type(value) is type(item) for item in inner):
            raise InputError(f"{where}: expected {_text(hint)}; it is {_short(value)}.")
    # Python counts true as a whole number, and JSON writes 1.0 as 1 where it likes
    elif isinstance(value, bool) != (hint is bool) or not isinstance(value, (int, float) if hint is float else hint):
        raise InputError(f"{where}: expected {_text(hint)}; it is {_short(value)}.")
    return value


def _check_keys(hint: Any, values: Mapping[str, Any], where: str) -> None:
    missing = sorted(hint.__required_keys__ - values.keys())
    if missing:
        raise InputError(f"{where}: lacks {missing[0]!r}.")
    for name, kind in get_type_hints(hint, include_extras=True).items():
        if name in values:
            check(kind, values[name], f"{where}: {name}")


def _text(hint: Any) -> str:
    """Return a type for an error message."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        low, high = inner[1]
        largest = "" if high in (LARGEST, math.inf) else f" and at most {high}"
        return f"{_text(inner[0])} of at least {low}{largest}"
    if origin is Literal:
        return " or ".join(repr(item) for item in inner)
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object"}
    return names.get(hint, "a list" if hint is list else str(hint))


def _short(value: Any, *, quote: bool = True) -> str:
    text = repr(value) if quote else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _no_number(name: str) -> float:
    raise InputError(f"holds {name}, which is no number.")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(_short(text, quote=False))


def _moderate(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > LARGEST:
        raise InputError(f"holds {_short(text, quote=False)}, which is too large a number.")
    return int(text)


def _visible(value: Any, deep: int) -> Any:
    """Return a JSON value with its texts printable; it may hold ``deep`` levels of lists and objects."""
    if isinstance(value, str):
        return visible(value)
    if not isinstance(value, (list, dict)):
        return value
    if not deep:
        raise RecursionError
    if isinstance(value, list):
        return [_visible(item, deep - 1) for item in value]
    return {visible(name): _visible(item, deep - 1) for name, item in value.items()}


def settings_object(kind: type[T], values: Any, where: str, **more: Any) -> T:
    """Return a settings object made of JSON values, each checked against the type of its field."""
    check(dict, values, where)
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints or name in more:
            raise InputError(f"{where}: {name!r} is unknown to this version of nuat; update nuat.")
        check(json_type(hints[name]), value, f"{where}: {name}")
        length = len(get_args(hints[name]))
        if get_origin(hints[name]) is tuple and Ellipsis not in get_args(hints[name]) and len(value) != length:
            raise InputError(f"{where}: {name}: expected {length} values; it is {_short(value)}.")
    try:
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}, **more)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except TypeError as error:
        raise InputError(f"{where}: {str(error).partition('() ')[2]}.") from None


def json_type(hint: Any) -> Any:
    """Return the type that JSON has for the type of a field: a list for a tuple, text for a path."""
    if hint is Path:
        return str
    if get_origin(hint) is tuple:
        return list[get_args(hint)[0]]  # type: ignore[misc]
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(json_type(inner) for inner in get_args(hint))]  # noqa: UP007
    return hint


def visible(text: str) -> str:
    """Return text with characters that no page, table or terminal may meet as escapes; line ends and tabs stay."""
    return _HIDDEN.sub(lambda found: printable(found[0]), text)
