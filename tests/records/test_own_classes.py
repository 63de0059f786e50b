"""Settings whose classes are the user's own, written and read."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nuat.config import TrainConfig
from nuat.errors import InputError
from nuat.recipes import find
from nuat.records.settings import code_names, keep_code, read_config, write_config

MY = """
from __future__ import annotations

from dataclasses import dataclass, replace

from nuat.recipes import find
from parts.schedule import Steps
from parts import defense


def recipe():
    config = find("quickstart")()
    return replace(config, defense=defense.Mine(weight=0.5), optimizer=replace(config.optimizer, lr=Steps(peak=0.2)))
"""
SCHEDULE = """
from __future__ import annotations

from dataclasses import dataclass

from nuat.core.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    peak: float = 0.1

    def __call__(self, t):
        return self.peak
"""
DEFENSE = """
from __future__ import annotations

from dataclasses import dataclass

from nuat.defenses import Defense


@dataclass(frozen=True, kw_only=True)
class Mine(Defense):
    weight: float = 1.0
    names: tuple[str, ...] = ("a",)

    def loss(self, model, x, y, step, state): ...
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainConfig]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("nuat.own_code.running.process.files", [])
    Path("parts").mkdir()
    for name, text in (("my.py", MY), ("parts/schedule.py", SCHEDULE), ("parts/defense.py", DEFENSE)):
        Path(name).write_text(text)
    yield find("my.py:recipe")()
    for name in ("parts", "parts.schedule", "parts.defense"):
        sys.modules.pop(name, None)


def restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process."""
    monkeypatch.setattr("nuat.own_code.running.process.files", [])
    for name in ("parts", "parts.schedule", "parts.defense"):
        sys.modules.pop(name, None)


def test_classes_of_several_files_come_back(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(Path("config.json"), config, "my.py:recipe")
    values = json.loads(Path("config.json").read_text())
    assert values["config"]["optimizer"]["lr"]["class"].startswith("my.py:Steps@")
    assert values["config"]["defense"]["class"].startswith("my.py:defense.Mine@")
    assert values["code"]["my.py"]["files"] == ["my.py", "parts/schedule.py", "parts/defense.py"]
    (kept,) = Path("code").iterdir()
    assert (kept / "parts/schedule.py").read_text() == SCHEDULE
    assert read_config(Path("config.json")) == ("my.py:recipe", config)
    assert len(code_names(config, "quickstart")) == 2

    restart(monkeypatch)
    _, again = read_config(Path("config.json"))
    assert type(again.defense) is not type(config.defense)
    assert again.defense.weight == 0.5  # type: ignore[attr-defined]
    assert again.optimizer.lr(0.0) == 0.2
    assert replace(again, defense=config.defense, optimizer=config.optimizer) == config


def test_a_changed_imported_file_is_other_code(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(Path("config.json"), config, "my.py:recipe")
    Path("parts/schedule.py").write_text(SCHEDULE + "# changed\n")
    restart(monkeypatch)
    with pytest.raises(InputError, match=r"my\.py was changed or moved since"):
        read_config(Path("config.json"))


def test_the_record_of_the_same_code_is_not_written_again(config: TrainConfig) -> None:
    write_config(Path("config.json"), config, "my.py:recipe")
    before = Path("config.json").stat().st_mtime_ns
    keep_code(Path("config.json"), config, "my.py:recipe")
    assert Path("config.json").stat().st_mtime_ns == before
