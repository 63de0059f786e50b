"""Arguments of a library's constructor, written NAME=VALUE in the settings."""

import re
from collections.abc import Sequence

from nuat.errors import InputError

Value = int | float | bool | str | tuple[int, ...] | tuple[float, ...] | None

_INTEGER = r"[-+]?\d+"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def parse_options(options: Sequence[str], taken: Sequence[str] = ()) -> dict[str, Value]:
    """Return the arguments by name: whole numbers, other numbers, true, false, none, lists such as 1:1:3:1, or words.

    Nothing is evaluated.

    Args:
        options: arguments, each NAME=VALUE.
        taken: names that other settings decide.

    Raises:
        InputError: an argument has another form, its name comes twice, or it is taken.
    """
    found: dict[str, Value] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name, text = name.strip(), text.strip()
        if not equals or not name.isidentifier() or not text:
            raise InputError(f"model.options: {option!r} is not NAME=VALUE, such as patch_size=4.")
        if name in found:
            raise InputError(f"model.options gives {name} twice; give it once.")
        if name in taken:
            raise InputError(f"model.options: {name} follows from the other settings and the images; leave it out.")
        found[name] = _value(text)
    return found


def _value(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind, pattern in ((int, _INTEGER), (float, _NUMBER)):
        if re.fullmatch(pattern, text):
            return kind(text)
        if re.fullmatch(rf"{pattern}(?::{pattern})+", text):
            return tuple(kind(part) for part in text.split(":"))
    return text
