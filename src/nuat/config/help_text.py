"""Help of a command: everyday options first, one entry an option, reflowed to the width of the terminal."""

import re
import shutil
import textwrap
import warnings
from argparse import Action
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

_WIDEST = 100
_COLUMN = 30
"""Width of the column of options; longer ones stand on a line of their own."""


def help_text(
    kind: Any,
    prog: str,
    *,
    everyday: Sequence[str] = (),
    short: Mapping[str, str] | None = None,
    inherited: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """Return the help of a command.

    Args:
        kind: dataclass of its options.
        prog: the command.
        everyday: names of the options that are shown, in this order. Empty: all.
        short: short name of an option to its full name.
        inherited: beginnings of the options whose default is the value of the run, with words for it. Empty words:
            that value, else the default.
        options: further arguments of tyro's parser: default, registry, config.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro has no other way to its options
        parser: Any = tyro.extras.get_parser(kind, prog=prog, **options)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    positional = [action for action in parser._actions if not action.option_strings]
    optional = len(parser._actions) > len(positional) + 1  # besides --help
    usage = " ".join([prog, *(_operand(action) for action in positional), *(["[OPTIONS]"] if optional else [])])
    blocks = [
        f"usage: {usage}",
        textwrap.fill(" ".join((parser.description or "").split()), width, break_on_hyphens=False),
    ]
    names = {full: name for name, full in (short or {}).items()}
    actions = [action for action in parser._actions if action.dest != "help"]
    entries = {_name(action): _entry(action, names, width, inherited or {}) for action in actions}
    if everyday:
        first = [_name(action) for action in positional]
        blocks.append("\n".join(entries[name] for name in (*first, *everyday) if name in entries))
        blocks.append(f"'{prog} --help-all' shows all {len(entries)} options.")
        return "\n\n".join(blocks) + "\n"
    for group in parser._action_groups:
        shown = [entries[_name(action)] for action in group._group_actions if _name(action) in entries]
        if shown:
            title = group.title + (
                f": {group.description[0].lower()}{group.description[1:]}" if group.description else ""
            )
            blocks.append("\n".join([*textwrap.wrap(" ".join(title.split()), width), *shown]))
    return "\n\n".join(blocks) + "\n"


def _name(action: Action) -> str:
    return action.option_strings[0] if action.option_strings else action.dest


def _operand(action: Action) -> str:
    name = action.dest.rpartition(".")[2].upper().replace("-", "_")
    return f"{name}..." if action.nargs in ("*", "+") else name


def _entry(action: Action, short: Mapping[str, str], width: int, inherited: Mapping[str, str]) -> str:
    """Return an option with its value, and its text beside or below it."""
    if action.option_strings:
        value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
        names = [
            *action.option_strings[:1],
            *([short[action.option_strings[0]]] if action.option_strings[0] in short else []),
        ]
        head = f"  {', '.join(names)} {value}"
    else:
        head = f"  {_operand(action)}"
    text = _said(action.help or "")
    of_run = next((words for start, words in inherited.items() if _name(action).startswith(start)), None)
    if of_run:
        text = f"{text.partition(' (default: ')[0]} (default: {of_run})"
    elif of_run is not None:
        text = text.replace("(default: ", f"(default: the run's {_name(action).lstrip('-')}, else ")
    lines = textwrap.wrap(text, width - _COLUMN, break_on_hyphens=False)
    indent = " " * _COLUMN
    beside = len(head) < _COLUMN - 1 and bool(lines)
    first = head.ljust(_COLUMN) + lines[0] if beside else head
    return "\n".join([first, *(indent + line for line in lines[beside:])])


def _said(text: str) -> str:
    """Return the text of an option in one line. Where the default is none or empty, its meaning is the default."""
    text = " ".join(text.split())
    described, given, default = text.partition(" (default: ")
    if default not in ("none)", "'')", ")"):
        return text
    meaning = re.search(r" ?(?:None|Empty): (.+?)\.(?= [A-Z]|$)", described)
    if meaning is None:
        return text if default == "none)" else described
    return f"{described[: meaning.start()]}{described[meaning.end() :]}{given}{meaning[1]})".strip()
