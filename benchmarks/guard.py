"""What the guard costs: official attacks whose passes go at random through the guard or to the model itself.

    python benchmarks/guard.py [RUN|WEIGHTS] [--data cifar10.npz] [--n 80] [--attacks square apgd-t] [--rounds 3]

A whole evaluation differs by more from one run to the next than the guard costs. Here the passes alternate at random
within one run, so they meet the same images, caches and neighbours: of the model alone (plain), of the model with a
forward hook that counts its passes (counted), and of the model behind the guard, which counts them itself (guarded).
The time of a pass lasts until the next one, backward pass and attack included. What is printed: the mean of all but the
highest tenth of the times, and by how much the guarded ones are longer, with the standard error (bootstrap).
"""

import argparse
import copy
import random
import statistics
import time
from pathlib import Path

import torch
from evaluate import QUICKSTART, case
from pyautoattack import AutoAttack
from torch import Tensor, nn

from nuat import hardware
from nuat.core.pass_counter import PassCounter
from nuat.data import to_float
from nuat.evaluation.guarded_model import ClimbableModel
from nuat.hardware import full_precision
from nuat.records import checkpoints


class Alternating:
    """A model whose passes go at random one of three ways."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        counted = copy.deepcopy(model)  # the same weights in the same memory, and a hook of its own
        tensors = (*counted.parameters(), *counted.buffers()), (*model.parameters(), *model.buffers())
        for mine, theirs in zip(*tensors, strict=True):
            mine.data = theirs.data
        self.counter = PassCounter(counted)
        self.ways: dict[str, nn.Module] = {"plain": model, "counted": counted, "guarded": ClimbableModel(model)}
        self.seconds: dict[str, list[float]] = {way: [] for way in self.ways}
        self._names, self._draw = list(self.ways), random.Random(seed)
        self._last, self._began = "", 0.0

    def __call__(self, x: Tensor) -> Tensor:
        if self._last:
            self.seconds[self._last].append(time.perf_counter() - self._began)
        self._last = self._draw.choice(self._names)
        model, self._began = self.ways[self._last], time.perf_counter()
        logits: Tensor = model(x)
        return logits


def low(seconds: list[float]) -> float:
    """Return the mean of all but the highest tenth."""
    return statistics.mean(sorted(seconds)[: max(1, 9 * len(seconds) // 10)])


def longer(guarded: list[float], other: list[float]) -> str:
    """Return by how many % the guarded passes are longer, and the standard error."""
    draw = random.Random(0)
    drawn = [[low(draw.choices(side, k=len(side))) for side in (guarded, other)] for _ in range(100)]
    error = statistics.stdev(100 * (a / b - 1) for a, b in drawn)
    return f"{100 * (low(guarded) / low(other) - 1):+.2f} % (standard error {error:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=QUICKSTART, help="a run or its weights")
    parser.add_argument("--data", type=Path, help="test images instead of the run's own")
    parser.add_argument("--n", type=int, default=80)
    parser.add_argument("--attacks", nargs="+", default=["square", "apgd-t"])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    weights = checkpoints.weights_file(asked.model)
    images, threat = case(weights, asked.data, asked.n)
    x, y = to_float(images.images), images.labels
    print(f"{weights}, n {asked.n}, {hardware.describe(torch.device('cpu'))}, torch {torch.__version__}")
    for attack in asked.attacks:
        model = checkpoints.load(weights).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        alternating = Alternating(model, seed=0)
        for seed in range(asked.rounds):
            official = AutoAttack(
                alternating, attacks=[attack], version="custom", eps=threat.eps, norm=threat.norm, seed=seed
            )
            official.verbose = False
            with torch.no_grad(), full_precision(), alternating.counter:
                official.run_standard_evaluation(x, y, batch_size=asked.n)
        found = alternating.seconds
        print(
            f"{attack}: "
            + ", ".join(f"{way} {1e6 * low(seconds):.0f} us ({len(seconds):,})" for way, seconds in found.items())
            + f"; guarded against plain {longer(found['guarded'], found['plain'])}, "
            + f"against counted {longer(found['guarded'], found['counted'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
