"""The ``>>>`` examples of the package and of the documentation's pages run, and print what they say."""

import doctest
import importlib
import re
from pathlib import Path
from types import FunctionType

import pytest

import nuat

SOURCE = Path(nuat.__file__).parent
ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = sorted(
    ".".join(("nuat", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for file in SOURCE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)
PAGES = sorted(
    str(file.relative_to(ROOT))
    for file in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "```pycon" in file.read_text(encoding="utf-8")
)


def run(example: doctest.DocTest) -> list[str]:
    """Run an example and return what went wrong."""
    complaints: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=complaints.append)
    return complaints


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example starts with nothing defined, as a reader does who copies it."""
    module = importlib.import_module(name)
    examples = [found for found in doctest.DocTestFinder().find(module, globs={}) if found.examples]
    assert examples
    monkeypatch.chdir(tmp_path)
    assert [complaint for example in examples for complaint in run(example)] == []


@pytest.mark.parametrize("package", ["nuat", "nuat.attacks", "nuat.defenses", "nuat.models", "nuat.data"])
def test_every_public_class_and_function_has_an_example(package: str) -> None:
    public = {
        name: getattr(importlib.import_module(package), name) for name in importlib.import_module(package).__all__
    }
    documented = {name: thing.__doc__ or "" for name, thing in public.items() if isinstance(thing, type | FunctionType)}
    assert [name for name, text in documented.items() if ">>> " not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page follow one another, in a folder that holds the committed results."""
    blocks = re.findall(r"^```pycon\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    example = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    assert run(example) == []
