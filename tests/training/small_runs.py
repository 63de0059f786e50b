"""Small runs for the tests of training: their images, their settings, and what they leave behind."""

import dataclasses
import json
import signal
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import nuat
from nuat.config import (
    AveragingConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ThreatConfig,
    TrainConfig,
)
from nuat.core.losses import cross_entropy
from nuat.core.schedules import Cyclic, Ramp
from nuat.defenses import BatchLoss, Defense, NuAT, State, Step
from nuat.errors import NonFiniteError
from nuat.progress import Reporter
from nuat.records.checkpoints import read_checkpoint
from nuat.training.run import Run

EPS = 0.1
CLASSES = 3
TRAIN, VALIDATION, TEST = 120, 20, 40
BATCH_SIZE = 32
BATCHES = 4  # three of 32 images and one of 4
LAM = Ramp(peak=6.0)
SMALL_CNN = ModelConfig(name="small-cnn", width=4)
BATCH_NORM = ModelConfig(name="wrn-10-1")


def write_images(folder: Path, *, channels: int = 3, size: int = 8, seed: int = 0) -> Path:
    """Write images of three classes, a bright bar at another height in each, under noise, and return the file."""
    draw = np.random.default_rng(seed)
    patterns = np.full((CLASSES, size, size, channels), 0.25)
    for label in range(CLASSES):
        patterns[label, label * size // CLASSES : (label + 1) * size // CLASSES] = 0.75
    arrays: dict[str, Any] = {}
    for part, n in (("train", TRAIN), ("test", TEST)):
        y = np.arange(n) % CLASSES
        x = patterns[y] + draw.normal(0.0, 0.1, (n, size, size, channels))
        arrays[f"x_{part}"] = (255 * x.clip(0.0, 1.0)).round().astype(np.uint8)
        arrays[f"y_{part}"] = y
    np.savez(folder / "images.npz", **arrays)
    return folder / "images.npz"


def write_digits(folder: Path) -> Path:
    """Write the first bundled digits, 8 x 8 pixels of each, and return the file: bytes that no generator draws."""
    with resources.as_file(resources.files("nuat.data") / "mnist_sample.npz") as file, np.load(file) as sample:
        arrays: dict[str, Any] = {}
        for part, n in (("train", TRAIN), ("test", TEST)):
            keep = np.arange(n) * (len(sample[f"y_{part}"]) // n)
            arrays[f"x_{part}"] = sample[f"x_{part}"][keep].reshape(n, 28, 28)[:, 2:26:3, 2:26:3]
            arrays[f"y_{part}"] = sample[f"y_{part}"][keep]
    np.savez(folder / "digits.npz", **arrays)
    return folder / "digits.npz"


def small_config(images: Path, **changes: Any) -> TrainConfig:
    """Return two epochs of NuAT with crop and flip on the small CNN; ``changes`` are fields of TrainConfig."""
    config = TrainConfig(
        defense=NuAT(lam=LAM),
        data=DataConfig(path=images, validation=VALIDATION, crop_padding=1, flip=True),
        model=SMALL_CNN,
        threat=ThreatConfig(eps=EPS, pgd_alpha=EPS / 4),
        optimizer=OptimizerConfig(lr=Cyclic(peak=0.05, rise=0.3)),
        evaluation=EvaluationConfig(attacks=("clean",), n=None, batch_size=50),
        epochs=2,
        batch_size=BATCH_SIZE,
        device="cpu",
    )
    return dataclasses.replace(config, **changes)


def averaged(tau: float = 0.8, *, warmup: bool = False) -> AveragingConfig:
    return AveragingConfig(tau=tau, warmup=warmup)


class PowerCut(BaseException):
    """Ends a run like a killed process: nothing is caught, nothing is saved."""


class Watcher(Reporter):
    """Keeps what a run tells, and does something after given steps (counted from 1)."""

    def __init__(self, at: dict[int, Callable[[], Any]] | None = None) -> None:
        self.at = at or {}
        self.steps: list[int] = []
        self.metrics: list[dict[str, float]] = []
        self.messages: list[str] = []
        self.stretches: list[tuple[str, int, int]] = []

    def message(self, text: str, *, style: str = "") -> None:
        self.messages.append(text)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self.stretches.append((title, total, done))

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        self.steps.append(step)
        self.metrics.append({name: float(value) for name, value in metrics.items()})
        if step in self.at:
            self.at[step]()


def cut() -> None:
    raise PowerCut


def wait_for(file: Path, seconds: float = 60.0) -> None:
    """Wait until a run's thread has written its first version of a file."""
    end = time.monotonic() + seconds
    while not file.is_file():
        assert time.monotonic() < end, f"{file} was not written"
        time.sleep(0.005)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def train(
    config: TrainConfig, out: Path, at: dict[int, Callable[[], Any]] | None = None, *, resume: bool = False
) -> Run:
    return nuat.run(config, out=out, resume=resume, reporter=Watcher(at))


def metrics(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the lines of the metrics, of the given kinds if any; every line must be whole."""
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if not kinds or line["kind"] in kinds]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the metrics without what may differ between two equal runs: clocks and resumptions."""
    lines = [line for line in metrics(folder) if line["kind"] != "resume"]
    return [{name: value for name, value in line.items() if name not in ("time", "seconds")} for line in lines]


def remembered(folder: Path) -> dict[str, Any]:
    """Return the full state of a run without the clock and the size of the metrics, whose digits depend on it."""
    state = read_checkpoint(folder / "checkpoint.pt")
    return {name: value for name, value in state.items() if name not in ("seconds", "metrics_bytes")}


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Nested plain data are equal, tensors to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for name in a:
            assert_equal(a[name], b[name], f"{where}/{name}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, f"{where}/{i}")
    elif isinstance(a, Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path) -> None:
    """Two finished runs hold the same state, the same numbers and the same weights, to the last bit."""
    assert_equal(remembered(a), remembered(b))
    assert timeless(a) == timeless(b)
    for name in ("best.safetensors", "last.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def temporary_files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


ERRORS: dict[str, type[Exception]] = {"NonFiniteError": NonFiniteError, "ZeroDivisionError": ZeroDivisionError}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spoiled(Defense):
    """Standard training whose loss is NaN, or raises, in given steps of the run."""

    steps: tuple[int, ...] = ()
    """Steps, counted from 0."""
    error: str | None = None
    """Name of the error raised there; none: the loss is NaN."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, step: Step, state: State) -> BatchLoss:
        loss = cross_entropy(model(x), y)
        if step.epoch * step.batches + step.batch in self.steps:
            if self.error is not None:
                raise ERRORS[self.error]("the logits have diverged")
            loss = loss * float("nan")
        return BatchLoss(loss, {"clean_loss": loss.detach()})
