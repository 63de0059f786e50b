"""The quickstart beside busy processes: how many times as long its training takes as alone.

    python benchmarks/loaded.py [--busy 1] [--rounds 3] [--epochs 2]

Each way of choosing threads trains in turn, alone and beside the busy processes, in processes of its own. The machine
must be quiet otherwise. "nuat" is the command's own choice; the others set OMP_NUM_THREADS, OMP_WAIT_POLICY and
GOMP_SPINCOUNT. Ratios are to the median of "torch's default" alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHOSEN = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
CORES = str(os.cpu_count())
DEFAULT = "torch's default"
WAYS: dict[str, dict[str, str]] = {
    "nuat": {},
    DEFAULT: {"KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": CORES},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": CORES},
    "short spins": {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": CORES},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""Name to environment variables; GNU's OpenMP, which torch brings, ignores KMP_BLOCKTIME."""


def train(environment: dict[str, str], epochs: int) -> float:
    """Return the training seconds of a quickstart of a few epochs."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "quickstart", "--out", f"{folder}/run", "--epochs", str(epochs), "--device", "cpu"]
        words += ["--evaluation.attacks", "clean", "--evaluation.n", "10"]
        kept = {name: value for name, value in os.environ.items() if name not in CHOSEN}
        done = subprocess.run(
            [sys.executable, "-m", "nuat", *words], env=kept | environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        return float(json.loads(lines[-1])["seconds"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=1, help="busy processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args(arguments)
    ways = list(WAYS)
    seconds: dict[tuple[str, int], list[float]] = {(way, busy): [] for way in ways for busy in (0, given.busy)}
    for _ in range(given.rounds):
        for busy in (0, given.busy):
            hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
            try:
                for way in ways:
                    seconds[way, busy].append(train(WAYS[way], given.epochs))
            finally:
                for hog in hogs:
                    hog.kill()
                    hog.wait()
    base = statistics.median(seconds[DEFAULT, 0])
    print(f"{CORES} cores, {given.epochs} epochs, {given.rounds} rounds, {given.busy} busy processes\n")
    print("| way | alone, s | times | beside busy processes, s | times |\n|---|---:|---:|---:|---:|")
    for way in ways:
        alone, beside = (statistics.median(seconds[way, busy]) for busy in (0, given.busy))
        print(f"| {way} | {alone:.1f} | {alone / base:.2f} | {beside:.1f} | {beside / base:.2f} |")


if __name__ == "__main__":
    main()
