"""Names of own code, what they stand for, and when it runs."""

import importlib.util
import json
import py_compile
import struct
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nuat import defenses, own_code
from nuat.errors import InputError
from nuat.own_code import notes, running


@pytest.fixture(autouse=True)
def _process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.setattr(running.process, "files", [])
    monkeypatch.setattr(running.process, "given", {})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("helper", "part", "parts"):
            del sys.modules[name]


def write(text: str, name: str = "my.py") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.process, "files", [])


@pytest.mark.parametrize("text", ["my.py:make", "a/my.py:Mine", "my.py:", "my.py", "plugin:mine", "/a b/c@d/my.py:f"])
def test_names(text: str) -> None:
    assert own_code.is_named(text)
    assert not own_code.is_pinned(text)


@pytest.mark.parametrize("text", ["my.py:make@0123abcd", "my.py:part.Mine@0123abcd", "plugin:mine@0123abcd"])
def test_pinned_names(text: str) -> None:
    assert own_code.is_pinned(text)
    assert not own_code.is_named(text)
    assert own_code.plain(text) == text[:-9]


@pytest.mark.parametrize("text", ["quickstart", "resnet18", "timm:vit", "runs/a", "a/my.py:f@0123abcd", "my.py:f@0123"])
def test_other_texts_are_no_pinned_names(text: str) -> None:
    assert not own_code.is_pinned(text)
    assert own_code.plain(text) == text
    assert own_code.pin("resnet18") == "resnet18"


def test_a_file_runs_once_until_it_changes() -> None:
    write("ran = []\ndef f(): return ran\n")
    own_code.call("my.py:f").append(1)
    assert own_code.call("my.py:f") == [1]
    first = own_code.pin("my.py:f")
    write("ran = []\ndef f(): return ran # changed\n")
    assert own_code.call("my.py:f") == []
    assert own_code.pin("my.py:f") != first
    assert own_code.call(first) == [1]  # this process still has it


def test_files_of_one_name_import_what_lies_next_to_them() -> None:
    for folder, value in (("a", 1), ("b", 2)):
        write("import helper\nfrom parts import first\ndef f(): return helper.VALUE * first.ONE\n", f"{folder}/my.py")
        write(f"VALUE = {value}\n", f"{folder}/helper.py")
        write(f"ONE = {10**value}\n", f"{folder}/parts/first.py")
    assert [own_code.call(f"{folder}/my.py:f") for folder in ("a", "b", "a")] == [10, 200, 10]
    write("VALUE = 3\n", "a/helper.py")
    assert own_code.call("a/my.py:f") == 30
    assert not list(Path().rglob("__pycache__"))


def test_only_the_texts_that_were_read_are_imported(tmp_path: Path) -> None:
    """Neither a compiled file next to them, which may be of another text, nor a file that no import names."""
    write("import helper\nfrom parts import first\ndef f(): return helper.VALUE, first.VALUE\n")
    write("VALUE = 1\n", "helper.py")
    write("VALUE = 2\n", "parts/first.py")
    (tmp_path / "other.py").write_text("VALUE = 3\n")
    compiled = Path(py_compile.compile("other.py", importlib.util.cache_from_source("helper.py")) or "")
    content = compiled.read_bytes()
    stat = Path("helper.py").stat()
    compiled.write_bytes(content[:8] + struct.pack("<II", int(stat.st_mtime), stat.st_size) + content[16:])
    assert own_code.call("my.py:f") == (1, 2)
    write("import importlib\nimportlib.import_module('other')\n", "hidden.py")
    with pytest.raises(InputError, match=r"hidden\.py, line 2: ModuleNotFoundError: No module named 'other'"):
        own_code.pin("hidden.py:f")


def test_a_file_that_would_not_be_the_one_imported_is_refused() -> None:
    write("import json\n")
    write("", "json.py")
    with pytest.raises(InputError, match="another module is called json and would be imported instead"):
        own_code.pin("my.py:f")


def test_a_function_gets_the_arguments_that_it_names() -> None:
    write("def f(a, c=0): return a, c\ndef g(**all): return all\nclass K:\n    def __init__(self, b): self.b = b\n")
    assert own_code.call("my.py:f", a=1, b=2) == (1, 0)
    assert own_code.call("my.py:g", a=1, b=2) == {"a": 1, "b": 2}
    assert own_code.call("my.py:K", a=1, b=2).b == 2


def test_a_refusal_of_ours_stays_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^a refusal$"), own_code.blamed("my.py:make"):
        raise InputError("a refusal")


def test_classes_have_names() -> None:
    write(
        "import part\nfrom part import Other as Theirs, Plain\nclass Mine: pass\n"
        "def f():\n    class Inner: pass\n    return Inner\n"
    )
    write("class Other: pass\nclass Plain: pass\n", "part.py")
    digest = own_code.pin("my.py:Mine")[-8:]
    for name in ("Mine", "Plain", "part.Other"):
        kind = own_code.find(f"my.py:{name}")
        assert own_code.pinned_name(kind) == f"my.py:{name}@{digest}"
        assert own_code.find(f"my.py:{name}@{digest}") is kind
    assert own_code.pinned_name(InputError) is None
    with pytest.raises(InputError, match="is not at the top of its file"):
        own_code.pinned_name(own_code.call("my.py:f"))


def test_a_class_is_of_the_text_that_it_was_made_from() -> None:
    write("class Mine: pass\n")
    first, before = own_code.find("my.py:Mine"), own_code.pin("my.py:Mine")
    write("class Mine: pass # changed\n")
    assert own_code.pinned_name(own_code.find("my.py:Mine")) != before
    assert own_code.pinned_name(first) == before


def test_another_process_runs_what_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("def f(): return 1\n")
    pinned = own_code.pin("my.py:f")
    restart(monkeypatch)
    assert own_code.call(pinned) == 1
    path.rename("moved.py")
    restart(monkeypatch)
    with pytest.raises(InputError, match=r"my.py was changed or moved since; its text .* Give --code"):
        own_code.call(pinned)
    own_code.give("moved.py")
    assert own_code.call(pinned) == 1
    assert own_code.current(pinned) == pinned.replace("my.py", "moved.py")
    assert own_code.given() == ["--code", "moved.py"]
    assert own_code.forget_given() == []


def test_one_of_several_files_is_taken_by_its_name() -> None:
    write("def f(): return 1\n", "a/my.py")
    write("def f(): return 2\n", "b/other.py")
    own_code.give("a/my.py")
    own_code.give("b/other.py")
    with pytest.warns(RuntimeWarning, match="--code b/other.py: is other code than other.py:f@01234567"):
        assert own_code.call("other.py:f@01234567") == 2
    assert own_code.forget_given() == ["a/my.py"]


def test_a_name_of_a_record_runs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text at a place that this user has not named is not run, nor is another text at the place."""
    write("def f(): return 1\n")
    pinned = own_code.pin("my.py:f")
    restart(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(Path("another").resolve()))
    with pytest.raises(InputError, match="is code that you have not run on this machine, and a record alone runs none"):
        own_code.find(pinned)
    notes.note(Path("elsewhere/my.py"), "0" * 64)
    with pytest.raises(InputError, match="that you have not run"):
        own_code.find(pinned)


def test_notes_that_are_damaged_or_cannot_be_written_are_passed_over(tmp_path: Path) -> None:
    notes.note(Path("/a/my.py"), "12" * 32)
    notes.note(Path("/a/my.py"), "12" * 32)
    file = tmp_path / "home/nuat/own-code.jsonl"
    (line,) = file.read_text().splitlines()
    assert json.loads(line) == {"sha256": "12" * 32, "path": "/a/my.py"}
    file.write_text('{"sha256": 3, "path": "/b/my.py"}\n[]\n{"pa\n' + line)
    assert notes.noted("my.py", "1212") == [Path("/a/my.py")]
    file.unlink()
    file.mkdir()
    notes.note(Path("/a/my.py"), "12" * 32)
    assert notes.noted("my.py", "1212") == []


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with an entry point."""
    write("def f(): return 1\nclass Mine: pass\n", "package_of_mine.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        metadata.EntryPoint(name=n, value=f"package_of_mine:{t}", group=running.GROUP)
        for n, t in (("f", "f"), ("mine", "Mine"))
    ]
    monkeypatch.setattr(running, "metadata", SimpleNamespace(entry_points=lambda group: points, EntryPoint=Any))
    monkeypatch.delitem(sys.modules, "package_of_mine", raising=False)
    return Path("package_of_mine.py")


def test_a_defense_may_be_an_entry_point(plugin: Path) -> None:
    plugin.write_text("from nuat.defenses import Defense\nclass Mine(Defense):\n    def loss(self, *batch): ...\n")
    assert defenses.find("plugin:mine").__name__ == "Mine"
    with pytest.raises(InputError, match="plugin:g: no installed package"):
        defenses.find("plugin:g")


def test_entry_points_have_names(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_code.call("plugin:f") == 1
    pinned = own_code.pin("plugin:mine")
    assert own_code.pinned_name(own_code.find("plugin:mine")) == pinned
    restart(monkeypatch)
    assert own_code.find(pinned) is own_code.find("plugin:mine")
    with pytest.raises(InputError, match=r"plugin:g: no installed package has this entry point of nuat.plugins. Inst"):
        own_code.pin("plugin:g")


def test_another_version_of_a_package_is_asked_for(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = own_code.pin("plugin:f")
    plugin.write_text(plugin.read_text() + "# changed\n")
    restart(monkeypatch)
    with pytest.raises(InputError, match="another version of the package is installed"):
        own_code.call(pinned)
    own_code.give("plugin:f")
    with pytest.warns(RuntimeWarning, match="is other code than"):
        assert own_code.call(pinned) == 1
