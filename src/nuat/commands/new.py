"""``nuat new``: write a file for a defense or an attack of the user's own, with its test."""

import importlib.util
import keyword
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import tyro

from nuat.config.arguments import parse
from nuat.errors import InputError
from nuat.files import check_writable, write_text
from nuat.progress import terminal

_USE = {
    "defense": "nuat train {file}:recipe",
    "attack": "nuat evaluate quickstart --data.name mnist-sample --attacks clean,{file}:{kind} --n 100",
}
"""Command that uses a new file."""


@dataclass(frozen=True, kw_only=True)
class _New:
    """Write a file for a defense or an attack of your own, with its test. Both work at once; change them."""

    what: tyro.conf.Positional[Literal["defense", "attack"]]
    """defense: with a recipe that trains with it. attack: for nuat evaluate --attacks."""
    name: tyro.conf.Positional[str]
    """Name, such as my_defense or MyDefense: the class is MyDefense, the file my_defense.py."""
    out: Path = Path()
    """Folder of the files."""


def new(arguments: list[str]) -> int:
    """``nuat new defense|attack NAME [--out FOLDER]``."""
    asked = parse(_New, arguments or ["--help"], prog="nuat new")
    module, kind = _names(asked.name)
    check_writable(asked.out, "--out")
    files = {f"{module}.py": f"{asked.what}.py.txt", f"test_{module}.py": f"test_{asked.what}.py.txt"}
    for name in files:
        if (asked.out / name).exists():
            raise InputError(f"{asked.out / name}: exists and is not overwritten; give another name or --out.")
    if importlib.util.find_spec(module) is not None:
        raise InputError(f"{asked.name}: Python has a module {module} already; choose another name.")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, template in files.items():
        text = (resources.files("nuat") / "commands" / "templates" / template).read_text(encoding="utf-8")
        text = text.replace(f"own_{asked.what}", module).replace(f"Own{asked.what.capitalize()}", kind)
        write_text(asked.out / name, text)
    file, test = (asked.out / name for name in files)
    console = terminal()
    console.print(f"written to {file} and {test}")
    console.print(f"next:    {_USE[asked.what].format(file=shlex.quote(str(file)), kind=kind)}", soft_wrap=True)
    console.print(f"test:    python -m pytest {shlex.quote(str(test))}", soft_wrap=True)
    return 0


def _names(name: str) -> tuple[str, str]:
    """Return the names of the module and of the class.

    Raises:
        InputError: neither can have this name.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,60}", name):
        raise InputError(f"{name!r}: expected letters, digits, _ and -, such as my_defense or MyDefense.")
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_")).split("_")
    module = "_".join(part.lower() for part in parts if part)
    kind = "".join(part[0].upper() + part[1:] for part in parts if part)
    if keyword.iskeyword(module) or keyword.iskeyword(kind):
        raise InputError(f"{name}: is a word of Python; choose another name.")
    return module, kind
