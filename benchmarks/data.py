"""The loader alone, the share of a training step that is spent waiting for it, and the memory of many epochs.

    python benchmarks/data.py [--part loader|step|memory] [--workers 0,1,2] [--images 400] [--steps 12] [--files 20000]

It generates its own images: JPEG of 500 x 375 pixels and about 100 KB, as ImageNet's are, for the loader and the step,
and many small ones for the memory. What is printed:

loader: images/s of random resized crops to 224 pixels and flips, out of a folder and of tar shards, by the number of
worker processes, and of images that lie decoded in memory; medians of interleaved rounds.

step: NuAT steps of ResNet-18 at 224 pixels in the training loop itself, streamed by workers: how much of the time the
loop waits for a batch, and what a step takes with the images in memory.

memory: resident set size (RSS) and what is not shared with other processes (private) of the training process and of the
workers after each epoch over many files.
"""

import argparse
import io
import multiprocessing
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, features

from nuat import data, hardware
from nuat.config import DataConfig, ModelConfig, TrainConfig
from nuat.core.schedules import Ramp
from nuat.data import Batch, Dataset
from nuat.defenses import NuAT
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training.run import Loop

CLASSES = 4
SIDE = 224
_Sample = tuple[int, bytes]


def picture(draw: np.random.Generator, width: int, height: int) -> bytes:
    """Return a JPEG with structure at every scale."""
    pixels = np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256):
        coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 4
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def pictures(n: int, width: int, height: int, distinct: int) -> Iterator[_Sample]:
    """Yield n labelled JPEGs, the same ``distinct`` ones over and over."""
    draw = np.random.default_rng(0)
    made = [picture(draw, width, height) for _ in range(min(n, distinct))]
    for i in range(n):
        yield i % CLASSES, made[i % len(made)]


def write_folder(root: Path, parts: dict[str, Iterable[_Sample]]) -> Path:
    for part, samples in parts.items():
        for name in range(CLASSES):
            (root / part / str(name)).mkdir(parents=True)
        for i, (label, content) in enumerate(samples):
            (root / part / str(label) / f"{i:07d}.jpg").write_bytes(content)
    return root


def write_shards(root: Path, parts: dict[str, Iterable[_Sample]], a_shard: int = 50) -> Path:
    for part, samples in parts.items():
        (root / part).mkdir(parents=True)
        members = list(samples)
        for number, start in enumerate(range(0, len(members), a_shard)):
            with tarfile.open(root / part / f"set-{number:06d}.tar", "w") as tar:
                for i, (label, content) in enumerate(members[start : start + a_shard], start):
                    for suffix, body in (("jpg", content), ("cls", str(label).encode())):
                        entry = tarfile.TarInfo(f"{i:07d}.{suffix}")
                        entry.size = len(body)
                        tar.addfile(entry, io.BytesIO(body))
    return root


def settings(path: Path, cache: Path, workers: int | None, size: int = SIDE) -> DataConfig:
    """Return the settings of streaming by so many workers. None: in memory."""
    config = DataConfig(path=path, cache=cache, image_size=size, validation=0, crop_scale=0.08, flip=True)
    return config if workers is None else replace(config, loading="stream", workers=workers)


def epoch(dataset: Dataset, batch_size: int, number: int) -> Iterator[Batch]:
    return data.epoch_batches(
        dataset.train,
        batch_size,
        order_seed=0,
        epoch=number,
        crop_padding=0,
        crop_scale=0.08,
        flip=True,
        generator=torch.Generator().manual_seed(number),
    )


def loader(home: Path, images: int, workers: list[int], rounds: int) -> None:
    """Print the images/s of the loader alone."""
    parts = {"train": list(pictures(images, 500, 375, images)), "val": list(pictures(CLASSES, 500, 375, CLASSES))}
    size = sum(len(content) for _, content in parts["train"]) / images
    roots = {"folder": write_folder(home / "folder", parts), "shards": write_shards(home / "shards", parts)}
    sets = {
        (kind, count): data.load(settings(root, home / "cache", count))
        for kind, root in roots.items()
        for count in workers
    }
    began = time.perf_counter()
    resident = data.load(settings(roots["folder"], home / "cache", None))
    decoding = images / (time.perf_counter() - began)
    rates: dict[tuple[str, int | None], list[float]] = {}
    for number in range(rounds + 1):
        for key, dataset in {**sets, ("memory", None): resident}.items():
            began, seen = time.perf_counter(), 0
            for batch in epoch(dataset, 32, number):
                seen += len(batch.y)
            if number > 0:  # the first starts the workers
                rates.setdefault(key, []).append(seen / (time.perf_counter() - began))
    print(f"loader alone: {images} images of {size / 1024:.0f} KB, images/s, median of {rounds} epochs")
    for (kind, count), values in rates.items():
        where = "in memory" if count is None else f"{kind}, {count} workers"
        print(f"  {where:<20} {statistics.median(values):8.0f}   ({min(values):.0f} to {max(values):.0f})")
    print(f"  decoding all into memory once: {decoding:.0f} images/s", flush=True)


def step(home: Path, images: int, workers: int, steps: int, batch_size: int, precision: str) -> None:
    """Print what a training step waits for."""
    parts = {"train": pictures(images, 500, 375, images), "val": pictures(CLASSES, 500, 375, CLASSES)}
    root = write_folder(home / "steps", parts)
    for count in (None, workers):
        config = TrainConfig(
            defense=NuAT(lam=Ramp(peak=0.5)),
            data=settings(root, home / "cache", count),
            model=ModelConfig(name="resnet18"),
            batch_size=batch_size,
            precision="bf16" if precision == "bf16" else "fp32",
            device="cpu",
        )
        loop = Loop(config, RunFolder(home / f"run-{count}"), "benchmark", torch.device("cpu"), Reporter())
        waits, whole = [], []
        batches = loop.epoch()
        for _ in range(steps):
            began = time.perf_counter()
            batch = next(batches)
            waits.append(time.perf_counter() - began)
            loop.train_batch(batch)
            whole.append(time.perf_counter() - began)
        name = "in memory" if count is None else f"streamed, {count} workers"
        print(
            f"step of ResNet-18, {SIDE} pixels, batch {batch_size}, {precision}, {name}: median "
            f"{statistics.median(whole):.2f} s over {steps}; waited {sum(waits) / sum(whole):.2%} of the time, "
            f"{sum(waits[1:]) / sum(whole[1:]):.2%} without the first batch ({waits[0]:.2f} s)",
            flush=True,
        )


def memory(home: Path, files: int, workers: int, epochs: int) -> None:
    """Print the memory of the training process and of the workers after each epoch."""
    root = write_folder(home / "many", {"train": pictures(files, 40, 30, 200), "val": pictures(CLASSES, 40, 30, 4)})
    dataset = data.load(settings(root, home / "cache", workers, size=32))
    print(f"memory over {epochs} epochs of {files:,} files, {workers} workers, MiB: RSS (private)")
    for number in range(epochs):
        began, seen = time.perf_counter(), 0
        for batch in epoch(dataset, 256, number):
            seen += len(batch.y)
        taken = [os.getpid(), *sorted(process.pid or 0 for process in multiprocessing.active_children())]
        told = ["{:.1f} ({:.1f})".format(*resident_memory(pid)) for pid in taken]
        rate = seen / (time.perf_counter() - began)
        print(
            f"  epoch {number + 1:>2}: main {told[0]}, workers {', '.join(told[1:])}, {rate:.0f} images/s", flush=True
        )


def resident_memory(pid: int) -> tuple[float, float]:
    """Return the resident set of a process, and what of it no other process shares [MiB]."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return fields["Rss"] / 1024, (fields["Private_Clean"] + fields["Private_Dirty"]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("loader", "step", "memory"), help="one part instead of all")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--workers", default="0,1,2", help="of the loader; the last is that of the step and the memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    workers = [int(word) for word in asked.workers.split(",")]
    print(
        f"{hardware.describe(torch.device('cpu'))}, torch {torch.__version__}, Pillow {PIL.__version__}, libjpeg-turbo "
        f"{features.version('libjpeg_turbo')}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        if asked.part in (None, "loader"):
            loader(Path(folder), asked.images, workers, asked.rounds)
        if asked.part in (None, "step"):
            step(Path(folder), asked.images, workers[-1], asked.steps, asked.batch_size, asked.precision)
        if asked.part in (None, "memory"):
            memory(Path(folder), asked.files, workers[-1], asked.epochs)


if __name__ == "__main__":
    main()
