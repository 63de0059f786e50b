"""The tree is the architecture: rooms import only what stands below them, and there are few of them."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import nuat

SOURCE = Path(nuat.__file__).parent
FLOORS = (
    *("__main__", "cli", "commands", "plan", "report", "figures", "campaign", "export", "training"),
    *("diagnostics", "records", "evaluation", "recipes", "paper", "data", "models", "config", "defenses", "attacks"),
    *("distributed", "core", "listing", "own_code", "progress", "hardware", "files", "errors"),
)
"""Packages and modules of ``nuat``, from the top floor down."""


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of ``nuat`` that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("nuat."))
        elif isinstance(node, ast.ImportFrom) and node.module == "nuat":
            yield from (f"nuat.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nuat."):
            yield str(node.module)


@functools.cache
def arrows() -> dict[tuple[str, str], list[str]]:
    """Return the imports between rooms, each with the files that make it."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        for module in imported(file) if room != "__init__" else ():
            target = module.split(".")[1]
            if target in FLOORS and target != room:
                found.setdefault((room, target), []).append(f"{file.relative_to(SOURCE)} imports {module}")
    return found


def test_every_room_has_its_floor() -> None:
    rooms = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms - {"__init__"} <= set(FLOORS)


def test_no_import_goes_up() -> None:
    upwards = {arrow: files for arrow, files in arrows().items() if FLOORS.index(arrow[0]) > FLOORS.index(arrow[1])}
    assert not upwards


def test_only_its_command_imports_the_planner() -> None:
    assert {room for room, target in arrows() if target == "plan"} == {"commands"}


def test_there_are_few_rooms_and_few_ways_between_them() -> None:
    modules, packages = list(SOURCE.glob("*.py")), list(SOURCE.glob("*/__init__.py"))
    assert len(modules) <= 8
    assert len(modules) + len(packages) <= 28
    assert len(arrows()) <= 170


def test_the_page_has_the_counts_of_the_tree() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (rooms|room-to-room imports) \| \d+ \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    rooms = len(list(SOURCE.glob("*.py"))) + len(list(SOURCE.glob("*/__init__.py")))
    assert rows == [("rooms", str(rooms), "28"), ("room-to-room imports", str(len(arrows())), "170")]
