"""A quarter of an hour on one GPU: checks, rates, a training, its evaluation, and rows of Table 1a, in this order.

    python benchmarks/gpu.py --data cifar10.npz --out DIR [--minutes 12] [--rehearse]
    python benchmarks/gpu.py --join DIR

Every stage is a command with a deadline. Its output is in DIR/STAGE.log, and its outcome in a line of
DIR/stages.jsonl the moment that it ends. At its deadline it gets SIGTERM, on which nuat saves and stops. The same
command goes on: stages that are done are left out, a training resumes, and so does the campaign. DIR/weights has the
weights of the training in parts of at most 15 MiB, convolutions in fp16; --join puts them together in
DIR/joined.safetensors. --rehearse takes the same stages at a tiny size on the CPU.

| stage | what it runs |
|---|---|
| check | tests/gpu: one update of each defense as on the CPU, graphs as eager updates |
| rates | step.py at 128 and 64 images, nuclear.py |
| train | nuat-wa-cifar10-resnet18, 100 epochs |
| evaluate | the 10,000 test images under PGD-100, GAMA-PGD-100 and the quick verdict, then AutoAttack |
| passes | passes.py: the attacked model, folded and compiled, in fp32, TF32 and bf16 |
| campaign | the next rows of table-1a, for the minutes that are left |
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nuat.hardware import describe, versions
from nuat.records import checkpoints

HERE = Path(__file__).parent
PART = 15 * 2**20
"""Most bytes of a part of the weights."""
HEADER = 2**16
"""Bytes of these that are left for names and metadata."""
PATIENCE = 20.0
"""Seconds between SIGTERM and SIGKILL."""
NUAT = (sys.executable, "-m", "nuat")


@dataclass(frozen=True)
class Stage:
    """A command that ends, or is ended, by a share of the minutes."""

    name: str
    command: tuple[str, ...]
    until: float
    """Deadline, as a fraction of all minutes."""
    needs: Path | None = None
    """File without which it cannot run."""


def stages(data: Path, out: Path, minutes: float, *, rehearse: bool) -> list[Stage]:
    """Return the stages in their order."""
    device = "cpu" if rehearse else "cuda"
    run = out / "nuat-wa"
    best = run / "best.safetensors"
    tiny = ("--model.width", "4", "--data.train-limit", "128", "--data.validation", "40") if rehearse else ()
    few = ("--n", "20") if rehearse else ("--n", "none", "--batch-size", "1000")
    size = ("--width", "4", "--rounds", "1", "--matrix", "64") if rehearse else ("--compile", "true")
    steps = [
        (sys.executable, str(HERE / "step.py"), "--models", "resnet18", "--batch", batch, "--device", device, *size)
        for batch in (("4",) if rehearse else ("128", "64"))
    ]
    norms = (sys.executable, str(HERE / "nuclear.py"), "--device", device, "--sizes", "128x10,256x1000")
    passes = (sys.executable, str(HERE / "passes.py"), "--device", device)
    few_passes = ("--width", "4", "--batch", "2", "--rounds", "1", "--compile", "false") if rehearse else ()
    evaluate = (*NUAT, "evaluate", str(run), "--data.path", str(data), "--device", device, *few)
    attacks = "clean,pgd-2,gama-2" if rehearse else "clean,pgd-100,gama-100,autoattack-quick"
    standard = "clean,apgd-ce" if rehearse else "clean,autoattack"
    return [
        Stage("check", (sys.executable, "-m", "pytest", "-q", str(HERE.parent / "tests" / "gpu")), 0.12),
        *(Stage(f"step-{command[5]}", command, 0.2) for command in steps),
        Stage("nuclear", (*norms, "--rounds", "1" if rehearse else "9"), 0.22),
        Stage(
            "train",
            (
                *(*NUAT, "train", "nuat-wa-cifar10-resnet18", "--data.path", str(data), "--device", device),
                *("--out", str(run), "--auto-resume", "true", "--evaluation.attacks", "clean", *tiny),
                *(("--epochs", "2", "--evaluation.n", "20") if rehearse else ()),
            ),
            0.7,
        ),
        Stage("evaluate", (*evaluate, "--attacks", attacks, "--json", str(out / "evaluation.json")), 0.8, best),
        Stage("autoattack", (*evaluate, "--attacks", standard, "--json", str(out / "autoattack.json")), 0.95, best),
        Stage("passes", (*passes, *few_passes), 0.98),
        Stage(
            "campaign",
            (
                *(*NUAT, "campaign", "table-1a", "--out", str(out / "table-1a"), "--budget", f"{60 * minutes:.0f}s"),
                *("--data.path", str(data), "--device", device, *(("--epochs", "1", *tiny) if rehearse else ())),
                *(("--dry-run", "true") if rehearse else ()),
            ),
            1.0,
        ),
    ]


def finished(out: Path) -> set[str]:
    """Return the names of the stages that ended well before."""
    record = out / "stages.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return {line["stage"] for line in map(json.loads, lines) if line["ended"] == "done"}


def take(stage: Stage, out: Path, left: float) -> str:
    """Run a stage for at most ``left`` seconds, record how it ended, and return that: done, failed or deadline."""
    began = time.monotonic()
    with (out / f"{stage.name}.log").open("ab") as log:
        process = subprocess.Popen(stage.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(max(left, 0.0))
            ended = "done" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            ended, code = "deadline", _stop(process)
    line = {
        "stage": stage.name,
        "ended": ended,
        "code": code,
        "seconds": round(time.monotonic() - began, 1),
        "command": [Path(stage.command[0]).name, *stage.command[1:]],
        "hardware": describe(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "versions": versions(),
    }
    with (out / "stages.jsonl").open("a", encoding="utf-8") as record:
        record.write(json.dumps(line) + "\n")
        record.flush()
        os.fsync(record.fileno())
    return ended


def _stop(process: "subprocess.Popen[bytes]") -> int:
    """End a process and its children, first by asking, and return its exit code."""
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(patience)
    raise SystemExit("a stage outlives SIGKILL.")


def split(weights: Path, folder: Path) -> list[Path]:
    """Write ``weights`` to ``folder`` in parts of at most ``PART`` bytes, convolutions in fp16; return the parts."""
    parts: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in checkpoints.read_tensors(weights).items():
        kept = tensor.half() if tensor.ndim == 4 and tensor.is_floating_point() else tensor
        size = kept.numel() * kept.element_size()
        if held + size > PART - HEADER and parts[-1]:
            parts.append({})
            held = 0
        parts[-1][name] = kept
        held += size
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part-*.safetensors"):
        old.unlink()
    paths = [folder / f"part-{i}-of-{len(parts)}.safetensors" for i in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        checkpoints.save_weights(path, part, checkpoints.read_info(weights))
    return paths


def join(out: Path) -> Path:
    """Put the parts in ``out``/weights together, in fp32, and return the file, which every command of nuat takes."""
    paths = sorted((out / "weights").glob("part-*.safetensors"))
    if not paths or len(paths) != int(paths[0].stem.rpartition("-")[2]):
        raise SystemExit(f"{out / 'weights'}: parts are missing; there are {[path.name for path in paths]}.")
    found = {name: tensor for path in paths for name, tensor in checkpoints.read_tensors(path).items()}
    wide = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in found.items()}
    checkpoints.save_weights(out / "joined.safetensors", wide, checkpoints.read_info(paths[0]))
    return out / "joined.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="cifar10.npz")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--rehearse", action="store_true", help="the same at a tiny size on the CPU")
    parser.add_argument("--join", type=Path, metavar="DIR", help="put the weights in DIR together")
    asked = parser.parse_args(arguments)
    if asked.join is not None:
        print(join(asked.join))
        return
    if asked.data is None or asked.out is None:
        parser.error("give --data and --out")
    if not asked.rehearse and not torch.cuda.is_available():
        parser.error("no CUDA GPU is available; --rehearse runs the stages on the CPU")
    began, out, data = time.monotonic(), asked.out.resolve(), asked.data.resolve()
    out.mkdir(parents=True, exist_ok=True)
    done = finished(out)
    for planned in stages(data, out, asked.minutes, rehearse=asked.rehearse):
        left = 60 * asked.minutes * planned.until - (time.monotonic() - began)
        if planned.name in done:
            print(f"{planned.name}: done before", flush=True)
            continue
        if planned.needs is not None and not planned.needs.exists():
            print(f"{planned.name}: left out, there is no {planned.needs.name}", flush=True)
            continue
        command = planned.command
        if planned.name == "campaign":  # the budget is what is left
            command = tuple(
                f"{max(left, 1):.0f}s" if word == f"{60 * asked.minutes:.0f}s" else word for word in command
            )
        ended = take(Stage(planned.name, command, planned.until), out, left)
        print(f"{planned.name}: {ended}, {time.monotonic() - began:.0f} s in all", flush=True)
        best = out / "nuat-wa" / "best.safetensors"
        if planned.name == "train" and best.exists():
            print(", ".join(path.name for path in split(best, out / "weights")), flush=True)


if __name__ == "__main__":
    main()
