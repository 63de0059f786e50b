"""A figure of the user's own in a file: that of the documentation, without a row in the catalogue."""

import re
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine

ROOT = Path(__file__).parents[2]
MODEL = ("quickstart", "--data.name", "mnist-sample", "--n", "20")


@pytest.fixture
def nuat(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("home")))
    page = (ROOT / "docs/extend/figure.md").read_text(encoding="utf-8")
    found = re.search(r"confidence.py`:\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    Path("confidence.py").write_text(found[1])
    return CommandLine(capsys)


@pytest.mark.slow
def test_it_is_measured_drawn_and_drawn_again(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    nuat.done("analyse", "confidence.py:FIGURE", *MODEL)
    first = Path("analysis-confidence.svg").read_text()
    Path("analysis-confidence.svg").unlink()
    monkeypatch.setattr("nuat.own_code.running.process.files", [])  # another process
    nuat.done("analyse", "redraw", "analysis-confidence.json")
    assert Path("analysis-confidence.svg").read_text() == first
    assert "temperature" in nuat("analyse", "confidence.py:FIGURE", "--help").out

    monkeypatch.setattr("nuat.own_code.running.process.files", [])  # and another user
    monkeypatch.setenv("XDG_STATE_HOME", str(Path("another").resolve()))
    said = nuat.refused("analyse", "redraw", "analysis-confidence.json")
    assert "confidence.py:FIGURE@" in said
    assert "is code that you have not run on this machine" in said
    nuat.done("analyse", "redraw", "analysis-confidence.json", "--code", "confidence.py")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("confidence.py:FIGUR", "the file has no 'FIGUR'. Did you mean 'FIGURE'?"),
        ("confidence.py:draw", "is not a ModelFigure or RunFigure"),
        ("other.py:FIGURE", "other.py: no such file"),
        ("confidenc", "unknown figure 'confidenc'. Did you mean 'confusion'?"),
    ],
)
def test_mistakes(name: str, told: str, nuat: CommandLine) -> None:
    assert told in nuat.refused("analyse", name, *MODEL)


def test_it_may_not_take_the_name_of_one_of_ours(nuat: CommandLine) -> None:
    text = Path("confidence.py").read_text().replace('ClassVar[str] = "confidence"', 'ClassVar[str] = "confusion"')
    Path("confidence.py").write_text(text)
    assert "nuat has a figure 'confusion'" in nuat.refused("analyse", "confidence.py:FIGURE", *MODEL)
