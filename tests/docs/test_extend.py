"""The pages of docs/extend, followed word for word in a copy: each file and each row is theirs, each command runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = "own-code"
"""The page that adds nothing to the package."""
PAGES = sorted(file.stem for file in (ROOT / "docs" / "extend").glob("*.md") if file.stem != "index")
FEWER = ("--data.train-limit", "320")
"""Added to commands that train; the rest of the images shows nothing more."""
_FILE = re.compile(r"^`([\w./-]+)`:\n\n```(python|diff|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMANDS = re.compile(r"^```shell\n(.*?)^```", re.MULTILINE | re.DOTALL)
_RUN = """
import json, sys
import nuat.cli, pytest
assert nuat.__file__.startswith(sys.argv[1])
for program, *words in json.loads(sys.argv[2]):
    print("$", program, *words, flush=True)
    code = {"nuat": nuat.cli.main, "pytest": pytest.main}[program](words)
    if code != 0:
        sys.exit(f"exit code {code}")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what a contributor changes; results are only read."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def patched(text: str, diff: str) -> str:
    """Return ``text`` with the hunks of a diff, whose context must stand there exactly once."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = [(line[:1] or " ", line[1:]) for line in hunk.splitlines()]
        before = "".join(f"{line}\n" for sign, line in lines if sign != "+")
        after = "".join(f"{line}\n" for sign, line in lines if sign != "-")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def contents(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.py")}


def follow(page: str, copy: Path) -> list[Path]:
    """Write the files and rows of a page into the copy, and return what has changed."""
    text = (ROOT / "docs" / "extend" / f"{page}.md").read_text(encoding="utf-8")
    before = contents(copy)
    for name, kind, block in _FILE.findall(text):
        file = copy / name
        assert file.exists() == (kind == "diff"), name
        file.write_text(patched(file.read_text(encoding="utf-8"), block) if kind == "diff" else block)
    after = contents(copy)
    changed = [file for file in after if after[file] != before.get(file)]
    package = [file for file in changed if file.parts[0] == "src"]
    if page == OWN:
        assert not package
    else:
        assert len(package) == 2, f"{page}: one file of its own and one row"
        assert sum(file not in before for file in changed) == 1, page
    return changed


def commands(page: str) -> list[list[str]]:
    text = (ROOT / "docs" / "extend" / f"{page}.md").read_text(encoding="utf-8")
    lines = [line for block in _COMMANDS.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    assert lines, page
    return [[*words, *(FEWER if words[1] == "train" else ())] for words in map(shlex.split, lines)]


@pytest.mark.slow
def test_each_page_adds_a_file_and_a_row_and_its_commands_run(copy: Path) -> None:
    """One page after another in one copy, and all commands in one process, which imports torch once."""
    changed = [file for page in PAGES for file in follow(page, copy)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy / 'tests'}",
        "XDG_STATE_HOME": str(copy / "state"),
    }
    run = [sys.executable, "-c", _RUN, str(copy), json.dumps([words for page in PAGES for words in commands(page)])]
    done = subprocess.run(run, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    done = subprocess.run(["ruff", "check", "-q", *map(str, changed)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
