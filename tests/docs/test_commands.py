"""Every command that the documentation shows exists, with each of its options."""

import functools
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from nuat import cli
from nuat.recipes import RECIPES

ROOT = Path(__file__).parents[2]
# the commands of docs/extend run in test_extend.py
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Return the words of each ``nuat`` command in the shell blocks of a page, without ``nuat``."""
    blocks = re.findall(r"^```shell\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("nuat") + 1 :] for line in words if "nuat" in line]


SHOWN = [(str(page.relative_to(ROOT)), " ".join(words), words) for page in PAGES for words in commands(page)]


@functools.cache
def help_of(*words: str) -> str:
    """Return what ``nuat WORDS --help`` prints, or ``--help-all`` where that shows more."""
    text = io.StringIO()
    with redirect_stdout(text):
        assert cli.main([*words, "--help"]) == 0, words
        if words and "--help-all" in text.getvalue():
            assert cli.main([*words, "--help-all"]) == 0, words
    return text.getvalue()


def options_of(words: list[str]) -> str:
    """Return the help that must name the options of a command."""
    command, first = words[0], words[1] if len(words) > 1 else ""
    if command == "train":
        if first.startswith("-") or first == "RECIPE" or not first:
            return help_of("train", "quickstart") + "--resume "
        assert first in RECIPES, f"no recipe {first}"
        return help_of("train", first)
    if command == "analyse":
        return help_of("analyse", first)
    # these two take the settings of training besides their own
    return help_of(command) + (help_of("train", "quickstart") if command in ("campaign", "plan") else "")


@pytest.mark.parametrize(("page", "line", "words"), SHOWN, ids=[f"{page}: {line}" for page, line, _ in SHOWN])
def test_a_command_and_its_options_exist(page: str, line: str, words: list[str]) -> None:
    if words[0].startswith("-"):
        assert words[0] in help_of()
        return
    assert f"\n  {words[0]} " in help_of()
    known = options_of(words)
    for word in words[1:]:
        if word.startswith("--") and word not in ("--help", "--help-all"):
            option = word.partition("=")[0]
            assert re.search(rf"{re.escape(option)}(?![\w.-])", known), f"nuat {words[0]} has no {option}"


def test_pages_show_commands() -> None:
    assert len(SHOWN) > 20
