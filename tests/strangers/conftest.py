"""The three ways to evaluate a stranger's model, in a folder of their own."""

from pathlib import Path

import pytest
from strangers.three_ways import ThreeWays


@pytest.fixture
def three_ways(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ThreeWays:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return ThreeWays(capsys, monkeypatch)
