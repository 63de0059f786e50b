"""Small campaigns: their images, their TOML, and what they leave behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nuat.campaign import Campaign, Ledger, QueueEntry, Runner, load
from nuat.progress import Reporter

CLASSES, TRAIN, VALIDATION, TEST, SIZE = 3, 72, 12, 30, 8
STEPS = 10  # of two epochs, 5 batches each
NORMAL, NUAT = "normal-mnist-small-cnn", "nuat-mnist-small-cnn"
SMALL = {
    "data.path": "images.npz",
    "data.validation": VALIDATION,
    "epochs": 2,
    "batch-size": 12,
    "model.width": 4,
    "threat.eps": 0.1,
    "threat.pgd-alpha": 0.03,
    "optimizer.lr.peak": 0.1,
    "precision": "fp32",
    "device": "cpu",
}
MAIN = {"name": "main", "attacks": ["clean", "pgd-2", "pgd-4"]}
FEW = {"name": "few", "attacks": ["fgsm"], "n": 9, "seeds": [0]}


def write_images(path: Path, *, test: int = TEST) -> Path:
    """Write images with a bright bar at another height for each class, under noise."""
    draw, arrays = np.random.default_rng(0), {}
    for part, n in (("train", TRAIN), ("test", test)):
        y = np.arange(n) % CLASSES
        x = draw.integers(0, 60, (n, SIZE, SIZE, 1))
        for label in range(CLASSES):
            x[y == label, label * SIZE // CLASSES : (label + 1) * SIZE // CLASSES] += 140
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    np.savez(path, allow_pickle=False, **arrays)
    return path


def value(given: Any) -> str:
    """Return a value as TOML; tables inline."""
    if isinstance(given, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {value(item)}" for name, item in given.items()) + " }"
    return json.dumps(given)  # TOML writes strings, numbers, booleans and lists of them as JSON does


def toml(
    *rows: dict[str, Any], suites: tuple[dict[str, Any], ...] = (MAIN, FEW), common: Any = SMALL, **top: Any
) -> str:
    """Return a campaign's file."""
    lines = [f"{name} = {value(given)}" for name, given in {"set": common, **top}.items()]
    for name, tables in (("suite", suites), ("row", rows)):
        for table in tables:
            lines += [f"[[{name}]]", *(f"{key} = {value(given)}" for key, given in table.items())]
    return "\n".join(lines) + "\n"


FOUR = toml(
    {"recipe": NORMAL, "label": "Normal", "seeds": [0, 1]},
    {"recipe": NUAT, "label": "NuAT", "seeds": [0, 1], "set": {"defense.lam.peak": 2}},
)
"""Two recipes x two seeds, in this order; the second suite on seed 0 alone."""
NAMES = [f"{method}/seed-{seed}" for method in (NORMAL, f"{NUAT}_defense.lam.peak-2") for seed in (0, 1)]


def plan(text: str = FOUR, **arguments: Any) -> Campaign:
    """Write a campaign's file to the current folder, and load it."""
    Path("small.toml").write_text(text)
    return load("small.toml", **arguments)


def runner(campaign: Campaign, out: str | Path = "out", **arguments: Any) -> Runner:
    return Runner(campaign, Ledger(Path(out)), **arguments)


def run(campaign: Campaign, out: str | Path = "out", **arguments: Any) -> dict[str, str]:
    """Run a campaign, and return each row's status."""
    return statuses(runner(campaign, out, **arguments).run())


def statuses(entries: list[QueueEntry]) -> dict[str, str]:
    return {entry.row.name: entry.status.value for entry in entries}


def record(name: str, out: str | Path = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(out) / name / "row.json").read_text())
    return found


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file under a folder but the locks, by relative path; none for a folder."""
    found = {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


class At(Reporter):
    """Does something after given training steps (counted from 1 in each row), and keeps what it is told."""

    def __init__(self, steps: dict[int, Callable[[], Any]] | None = None) -> None:
        self.steps = steps or {}
        self.messages: list[str] = []

    def message(self, text: str, *, style: str = "") -> None:
        self.messages.append(text)

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        if step in self.steps:
            self.steps[step]()
