"""The files of a folder that a file imports, and their digest."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from nuat.errors import InputError
from nuat.own_code.sources import digest_of, read_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "main.py": "import os, torch\nimport helper\nfrom parts import first\n\ndef late():\n    import lazy\n",
        "helper.py": "import parts.second\n",
        "lazy.py": "",
        "unused.py": "",
        "parts/__init__.py": "",
        "parts/first.py": "from . import third\n",
        "parts/second.py": "",
        "parts/third.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_import_of_the_folder_is_found(folder: Path) -> None:
    names = ["helper.py", "lazy.py", "main.py", "parts/__init__.py", "parts/first.py", "parts/second.py"]
    found = read_sources(folder / "main.py")
    assert next(iter(found)) == "main.py"
    assert sorted(found) == [*names, "parts/third.py"]


def test_the_digest_is_the_one_of_sha256sum(folder: Path) -> None:
    alone = read_sources(folder / "lazy.py")
    assert digest_of(alone) == hashlib.sha256(b"").hexdigest()
    found = read_sources(folder / "main.py")
    listed = subprocess.run(["sha256sum", *sorted(found)], cwd=folder, capture_output=True, check=True).stdout
    assert digest_of(found) == hashlib.sha256(listed).hexdigest()


def test_a_change_in_an_imported_file_changes_the_digest(folder: Path) -> None:
    before = digest_of(read_sources(folder / "main.py"))
    (folder / "unused.py").write_text("# changed\n")
    assert digest_of(read_sources(folder / "main.py")) == before
    (folder / "parts/third.py").write_text("# changed\n")
    assert digest_of(read_sources(folder / "main.py")) != before


def test_a_file_outside_the_folder_is_no_part(folder: Path) -> None:
    (folder / "parts/outer.py").write_text("from .. import helper\n")
    assert list(read_sources(folder / "parts/outer.py")) == ["outer.py"]


def test_a_file_that_cannot_be_read_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none.py: no such file"):
        read_sources(folder / "none.py")
    with pytest.raises(InputError, match=r"parts: cannot be read \(Is a directory\)"):
        read_sources(folder / "parts")
    (folder / "broken.py").write_text("import helper\nx = (\n")
    assert list(read_sources(folder / "broken.py")) == ["broken.py"]  # told when it runs
