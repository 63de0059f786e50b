"""The text of a user's file and of the files of its folder that it imports, and their digest."""

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path

from nuat.errors import InputError


def read_sources(path: Path) -> dict[str, bytes]:
    """Return the text of a file and of those of its folder that it imports, by path from the folder; the file first.

    The imports are found by reading the files. One whose name is computed is not seen.

    Raises:
        InputError: a file cannot be read.
    """
    found: dict[str, bytes] = {}
    left = [path]
    while left:
        file = left.pop(0)
        name = file.relative_to(path.parent).as_posix()
        if name in found:
            continue
        try:
            found[name] = file.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{file}: no such file.") from None
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}).") from None
        left += _local_imports(file, found[name], path.parent)
    return found


def digest_of(sources: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a file, or of the list of several files' digests and names, as ``sha256sum`` prints it."""
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in sources.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def module_name(name: str) -> str:
    """Return the name of the module in a file, given by its path from the folder of imports."""
    return ".".join(Path(name).with_suffix("").parts).removesuffix(".__init__")


def _local_imports(file: Path, text: bytes, folder: Path) -> list[Path]:
    """Return the files below ``folder`` that a text imports."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # told when the file is run
        return []
    named: list[tuple[Path, list[str]]] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            named += [(folder, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[min(node.level, len(file.parents)) - 1] if node.level else folder
            module = node.module.split(".") if node.module else []
            named += [(base, [*module, alias.name]) for alias in node.names]
    found: list[Path] = []
    for base, parts in named:
        if parts[0] == "nuat":  # a folder that holds the package itself
            continue
        for i in range(1, len(parts) + 1):
            place = base.joinpath(*parts[:i])
            found += [place / "__init__.py", place.with_name(f"{place.name}.py")]
    return [part for part in found if part.is_relative_to(folder) and part.is_file()]
