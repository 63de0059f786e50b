"""Names of own code, and what they stand for."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nuat.errors import InputError
from nuat.own_code.notes import noted
from nuat.own_code.running import (
    OwnFile,
    blamed,
    call_function,
    importable,
    process,
    run_file,
    run_plugin,
    thing,
)
from nuat.own_code.sources import digest_of, read_sources

_NAMED = re.compile(r"(?P<file>.+\.py)(?::(?P<name>[\w.]*))?|plugin:(?P<plugin>[\w.-]+)")
_PINNED = re.compile(
    r"(?P<whole>(?P<file>[^@/\\:]+\.py):(?P<name>[\w.]+)|plugin:(?P<plugin>[\w.-]+))@(?P<digest>[0-9a-f]{8})"
)
_DIGITS = 8
"""Digits of the digest in a pinned name. They need not withstand an attack, as all that they can choose is which of the
user's own files runs."""


def is_named(text: str) -> bool:
    """Return whether ``text`` names own code without a digest: ``FILE.py:NAME`` or ``plugin:NAME``."""
    return _NAMED.fullmatch(text) is not None


def is_pinned(text: str) -> bool:
    """Return whether ``text`` is a pinned name of own code, as records hold it."""
    return _PINNED.fullmatch(text) is not None


def plain(text: str) -> str:
    """Return a pinned name without its digest, and any other text as it is."""
    found = _PINNED.fullmatch(text)
    return found["whole"] if found else text


def check_there(text: str) -> None:
    """Refuse the name of a file that does not exist. The file does not run."""
    found = _NAMED.fullmatch(text)
    if found and found["file"] and not Path(found["file"]).is_file():
        raise InputError(f"{found['file']}: no such file.")


def pin(text: str, folder: Path = Path()) -> str:
    """Return the pinned name of own code, which runs unless it has; return any other text as it is.

    Args:
        text: ``FILE.py:NAME``, ``plugin:NAME``, or something else.
        folder: folder that FILE.py is relative to.

    Raises:
        InputError: there is no such file or name, or the file fails.

    Example:
        >>> from nuat import own_code
        >>> own_code.pin("resnet18")
        'resnet18'
    """
    if not is_named(text):
        return text
    find(text, folder)
    found = _NAMED.fullmatch(text)
    return _pin(_file(text, folder), found["name"] if found else None)


def find(text: str, folder: Path = Path()) -> Any:
    """Return the thing that a name of own code stands for, pinned or not.

    Args:
        text: the name.
        folder: folder that the file of an unpinned name is relative to.

    Raises:
        InputError: there is no such file or name; the file fails; or a pinned name is of code that this user has not
            named, or that has changed.
    """
    found = _PINNED.fullmatch(text) or _NAMED.fullmatch(text)
    assert found is not None
    return thing(_file(text, folder), found["name"] or "")


def call(text: str, folder: Path = Path(), **offered: Any) -> Any:
    """Call the function or class of a name with those of the ``offered`` arguments that it names.

    Raises:
        InputError: as ``find``; or it cannot be called, or fails.
    """
    function = find(text, folder)
    if not callable(function):
        raise InputError(f"{text}: is a {type(function).__name__}; expected a function or a class.")
    own = _file(text, folder)
    with blamed(text), importable(own.path.parent, own.sources):
        return call_function(function, **offered)


def folder_of(text: str, folder: Path = Path()) -> Path:
    """Return the folder of the file that a name of own code stands for."""
    return _file(text, folder).path.parent


def pinned_name(kind: type) -> str | None:
    """Return the pinned name of a class of an own file, or of a file that it imports. None: another class.

    Raises:
        InputError: the class has no name at the top of the file.
    """
    of_own = False
    for own in reversed(process.files):
        module = next((module for module in own.modules if module.__name__ == kind.__module__), None)
        if module is None:
            continue
        if own.name.startswith("plugin:"):
            if thing(own, "") is kind:
                return _pin(own, None)
            continue
        of_own = True
        if vars(own.module).get(kind.__name__) is kind:
            return _pin(own, kind.__name__)
        if vars(module).get(kind.__name__) is kind:
            alias = next((name for name, value in vars(own.module).items() if value is module), None)
            if alias is not None:
                return _pin(own, f"{alias}.{kind.__name__}")
    if of_own:
        raise InputError(
            f"{kind.__qualname__}: is not at the top of its file, so no record can name it; define or import it there."
        )
    return None


def current(text: str) -> str:
    """Return a pinned name with the digest of the code that it stands for now, which ``--code`` may have replaced."""
    found = _PINNED.fullmatch(text)
    return text if found is None else _pin(_resolve(found), found["name"])


def files_of(texts: Iterable[str]) -> list[OwnFile]:
    """Return the files of this process that the pinned names among ``texts`` stand for, each once."""
    pins = {text for text in texts if is_pinned(text)}
    wanted = {
        (found["file"] or f"plugin:{found['plugin']}", found["digest"])
        for found in map(_PINNED.fullmatch, pins)
        if found
    }
    return [own for own in process.files if (own.name, own.sha256[:_DIGITS]) in wanted]


def _pin(own: OwnFile, name: str | None) -> str:
    digest = own.sha256[:_DIGITS]
    return f"{own.name}@{digest}" if own.name.startswith("plugin:") else f"{own.name}:{name}@{digest}"


def _file(text: str, folder: Path) -> OwnFile:
    if pinned := _PINNED.fullmatch(text):
        return _resolve(pinned)
    found = _NAMED.fullmatch(text)
    assert found is not None
    if found["name"] is None and not found["plugin"]:
        raise InputError(f"{text}: names a file; name what is in it, too, such as {text}:recipe.")
    return run_plugin(found["plugin"]) if found["plugin"] else run_file(folder / found["file"])


def _resolve(pinned: re.Match[str]) -> OwnFile:
    """Return the file of a pinned name: that of ``--code``, one of this process, or one that this user named before."""
    name, digest = pinned["file"] or f"plugin:{pinned['plugin']}", pinned["digest"]
    for word in process.given:
        if name in (word, Path(word).name):
            return _given(word, pinned)
    for own in process.files:
        if (own.name, own.sha256[:_DIGITS]) == (name, digest):
            return own
    paths = noted(name, digest)
    for path in paths:
        if path.is_file() and digest_of(read_sources(path)).startswith(digest):
            return run_file(path)
    if len(process.given) == 1:  # under another name
        return _given(next(iter(process.given)), pinned)
    then = f"its text of then is in the run's folder, code/{digest}/"
    if pinned["plugin"]:
        own = run_plugin(pinned["plugin"])
        if own.sha256.startswith(digest):
            return own
        raise InputError(
            f"{pinned[0]}: another version of the package is installed, of digest {own.sha256[:_DIGITS]}; {then}. "
            f"Install that of then, or give --code {name} to take this one."
        )
    if paths:
        raise InputError(
            f"{pinned[0]}: {paths[0]} was changed or moved since; {then}. Give --code FILE.py with the one to take."
        )
    raise InputError(
        f"{pinned[0]}: is code that you have not run on this machine, and a record alone runs none; {then}. Read it, "
        "and if you trust it, give --code FILE.py."
    )


def _given(word: str, pinned: re.Match[str]) -> OwnFile:
    """Return the code that ``--code`` gave instead of a pinned name's; warn if it is other code."""
    plugin = word.startswith("plugin:")
    own = run_plugin(word.removeprefix("plugin:")) if plugin else run_file(Path(word))
    if not process.given[word] and not own.sha256.startswith(pinned["digest"]):
        warnings.warn(
            f"--code {word}: is other code than {pinned[0]}; its digest is {own.sha256[:_DIGITS]}.",
            RuntimeWarning,
            stacklevel=2,
        )
    process.given[word] = True
    return own
