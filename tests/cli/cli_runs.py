"""The command line in this process, small images, and what a command leaves behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuat.cli import main

CLASSES, TRAIN, TEST, SIZE = 3, 72, 30, 8
FAST = (
    "--data.validation", "12", "--epochs", "8", "--batch-size", "12", "--model.width", "4", "--threat.eps", "0.1",
    "--threat.pgd-alpha", "0.03", "--optimizer.lr.peak", "0.1", "--evaluation.batch-size", "13", "--evaluation.attacks",
    "clean,pgd-2,pgd-3",
)  # fmt: skip
"""A training of a second or two; give --data.path and --out as well."""


def arrays(*, classes: int = CLASSES, channels: int = 1, size: int = SIZE, seed: int = 0) -> dict[str, Any]:
    """Return images with a bright bar at another height for each class, under noise."""
    draw = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for part, n in (("train", TRAIN), ("test", TEST)):
        y = np.arange(n) % classes
        x = draw.integers(0, 60, (n, size, size, channels))
        for label in range(classes):
            x[y == label, label * size // classes : (label + 1) * size // classes] += 140
        found |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    return found


def write_npz(path: Path, **changes: Any) -> Path:
    """Write a good file with single arrays replaced, or left out by None."""
    np.savez(path, **{name: array for name, array in (arrays() | changes).items() if array is not None})
    return path


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave a run's figures out: they take longer than everything else together."""
    for name in ("training_curves", "adversarial_examples"):
        patch.setattr(f"nuat.figures.{name}.save", lambda *arguments, **keywords: None)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Calls the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ended:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *self._capsys.readouterr())

    def done(self, *arguments: object) -> Ended:
        """Call a command that must end well and say nothing on stderr."""
        ended = self(*arguments)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended

    def refused(self, *arguments: object) -> str:
        """Call a command that must be refused without a trace, and return its one line."""
        before = files(Path.cwd())
        ended = self(*arguments)
        assert ended.code == 2, ended
        assert "Traceback" not in ended.out + ended.err
        lines = ended.err.splitlines()
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("nuat: error: ")
        assert lines[0].removeprefix("nuat: error: ").strip()
        assert files(Path.cwd()) == before
        return lines[0]


def files(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file under ``folder``, by relative path; none for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in _below(folder)}


def _below(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*")))


def table_rows(text: str) -> dict[str, list[str]]:
    """Return the printed table: cells by the first of the row."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in rows}
