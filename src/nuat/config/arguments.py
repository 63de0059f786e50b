"""Read settings from the command line: fractions, true and false, none, and lists with commas."""

import contextlib
import io
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from nuat.core.eps import eps_text, parse_number
from nuat.errors import InputError

T = TypeVar("T")

_ELSEWHERE = {
    "--learning-rate": "--lr",
    "--lr0": "--lr",
    "--epsilon": "--eps",
    "--lambda": "--lam",
    "--bs": "--batch-size",
    "--batch": "--batch-size",
    "--wd": "--optimizer.weight-decay",
    "--weight-decay": "--optimizer.weight-decay",
    "--opt": "--optimizer.name",
    "--optimizer": "--optimizer.name",
    "--arch": "--model",
    "--dataset": "--data.name",
    "--data": "--data.path",
    "--data-dir": "--data.path",
    "--imgsz": "--data.image-size",
    "--img-size": "--data.image-size",
    "--gpus": "--devices",
    "--output": "--out",
    "--output-dir": "--out",
    "--pretrained": "--model.weights",
    "--amp": "--precision",
    "--validation.attack": "--validate-attack",
    "--label-smoothing": "--defense.smoothing",
    "--norm": "--threat.norm",
    "--threat": "--norm, --eps or --also",
    "--cutmix-alpha": "--data.cutmix",
}
"""Usual names of other tools to ours, for a hint."""

_KINDS = {"INT": "a whole number", "NUMBER": "a number", "X,Y,...": "numbers with commas"}
"""Kinds of values in words."""

HELP = frozenset({"-h", "--help", "--help-all"})
"""Words that ask for help."""


def parse(
    kind: Callable[..., T],
    arguments: Sequence[str],
    *,
    prog: str,
    default: T | None = None,
    everyday: Sequence[str] = (),
    short: Mapping[str, str] | None = None,
    inherited: Mapping[str, str] | None = None,
) -> T:
    """Return a ``kind`` (a dataclass) from ``arguments``. When asked for help, print it and raise SystemExit(0).

    Args:
        kind: dataclass of the options.
        arguments: words of the command line.
        prog: the command, for messages.
        default: values of the options that are not given.
        everyday: options that ``--help`` shows, in this order; ``--help-all`` shows the rest, too. Empty: all.
        short: short name of an option to its full name, such as ``--lr``.
        inherited: beginnings of the options whose default, in the help, is the value of the run, with words for it.

    Raises:
        InputError: a field is unknown, a value cannot be read, or the check of a setting refuses it.
    """
    given: Any = {} if default is None else {"default": default}
    given |= {"registry": _registry(), "config": (tyro.conf.FlagConversionOff,)}
    arguments = [_full(word, short or {}) for word in arguments]
    wanted = HELP.intersection(arguments)
    if wanted:
        from nuat.config.help_text import help_text  # only for those who ask

        shown = () if "--help-all" in wanted else everyday
        sys.stdout.write(help_text(kind, prog, everyday=shown, short=short, inherited=inherited, **given))
        raise SystemExit(0)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(  # type: ignore[no-any-return]
                kind,
                args=arguments,
                prog=prog,
                **given,
            )
    except SystemExit as end:
        refused = _refusal(end)
        if refused is not None:
            raise refused from None
        if end.code:
            raise InputError(_one_line(complaint.getvalue(), f"{prog} --help{'-all' if everyday else ''}")) from None
        raise


def as_word(value: Any) -> str:
    """Return a value of a TOML or JSON file as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return ",".join(map(as_word, value)) if isinstance(value, list) else str(value)


def _full(word: str, short: Mapping[str, str]) -> str:
    """Return an argument with the full name of its option."""
    name, equals, value = word.partition("=")
    return short.get(name, name) + equals + value


def without(arguments: list[str], *options: str) -> list[str]:
    """Return the arguments without some options and their values, ``--name value`` or ``--name=value``."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in {f"--{option}" for option in options}:
            next(words, None)
        elif not word.startswith(tuple(f"--{option}=" for option in options)):
            kept.append(word)
    return kept


def _refusal(error: BaseException | None) -> InputError | None:
    """Return the InputError that led to an error, if one did."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _one_line(box: str, show: str) -> str:
    """Return the parser's framed message as one line: the fault, and the nearest option that it names."""
    lines = [line.strip("│╭╰╮╯ ") for line in box.splitlines()[1:]]  # the first is the title
    sections: list[list[str]] = [[]]
    for line in lines:
        if line and set(line) <= set("─-"):  # without UTF-8 the frame is drawn with hyphens
            sections.append([])
        elif line:
            sections[-1].append(line)
    sections = [section for section in sections if section]
    message = _plainly(" ".join(sections[0]))
    nearest = [line for section in sections[1:] for line in section if line.startswith("--")]
    if message.startswith("Unrecognized"):
        elsewhere = [_ELSEWHERE[word] for word in re.findall(r"--[\w.-]+", message) if word in _ELSEWHERE]
        meant = [*elsewhere, *(line.split()[0] for line in nearest)]
        message += f". Did you mean {meant[0]}?" if meant else ""
    return f"{message} ('{show}' shows every setting)"


def _plainly(message: str) -> str:
    """Return the parser's message in the words of a person, where it has those of Python."""
    number = re.search(r"^Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*')$", message)
    if number is not None:
        return f"{number[1]}: {number[2]} is not a whole number"
    several = re.search(r"^Error parsing (\S+): no type matching (\S+) could be instantiated from \[('.*?')\]", message)
    if several is not None:
        kinds = [_KINDS.get(kind, kind) for kind in several[2].split("|")]
        return f"{several[1]}: {several[3]} is not {' or '.join(kinds)}"
    missing = re.search(r"^Missing from ([\w -]+): \S+ (.+?)\.? \(required\)", message)
    return f"{missing[1]} needs another word: {missing[2]}" if missing is not None else message


def _registry() -> ConstructorRegistry:
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kind: Any = info.type
        if typing.get_origin(kind) is tuple:  # typing.Tuple[float, ...] is another key than tuple[float, ...]
            kind = types.GenericAlias(tuple, typing.get_args(kind))
        return _RULES.get(kind)

    return registry


def _one(
    metavar: str, read: Callable[[str], Any], show: Callable[[Any], str], is_instance: Callable[[Any], bool]
) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=is_instance,
        str_from_instance=lambda value: [show(value)],
    )


def _flag(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _nothing(text: str) -> None:
    if text.lower() != "none":
        raise ValueError(f"{text!r} is not none")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(parse_number(word) for word in _words(text))


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(isinstance(item, kind) for item in value)


_RULES: dict[Any, PrimitiveConstructorSpec[Any]] = {
    float: _one("NUMBER", parse_number, eps_text, lambda value: isinstance(value, (float, int))),
    bool: _one("true|false", _flag, lambda value: str(value).lower(), lambda value: isinstance(value, bool)),
    type(None): _one("none", _nothing, lambda value: "none", lambda value: value is None),
    tuple[int, ...]: _one("N,M,...", _integers, lambda v: ",".join(map(str, v)), _all(int)),
    tuple[str, ...]: _one("A,B,...", _words, ",".join, _all(str)),
    tuple[float, ...]: _one("X,Y,...", _numbers, lambda v: ",".join(f"{x:.6g}" for x in v), _all(float)),
}
