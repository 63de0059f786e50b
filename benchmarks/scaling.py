"""How the cost of a NuAT step grows with the batch, the width, the classes and the image size.

    python benchmarks/scaling.py [--axes batch,width,classes,size] [--rounds 3] [--device cpu] [--precision fp32]

Each axis is varied alone around a ResNet-18 of width 16, batches of 64 images of 32 x 32 pixels and 10 classes. Ours is
timed beside the published step, both without TF32. The exponent is the slope of log seconds over log value between
neighbours: 1 is linear.
"""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from measure import header, interleaved, markdown, median, ratio, work
from plain_step import Case, Ours, Plain

from nuat import hardware

BASE = Case(width=16)
AXES: dict[str, tuple[int, ...]] = {
    "batch": (16, 32, 64, 128, 256),
    "width": (8, 16, 32, 64),
    "classes": (10, 100, 1000),
    "size": (16, 32, 64),
}


def table(axis: str, values: Sequence[int], base: Case, device: torch.device, *, rounds: int, precision: Any) -> str:
    """Time the steps along one axis; return the table."""
    rows: list[list[str]] = []
    before: tuple[int, float] | None = None
    for value in values:
        case = dataclasses.replace(base, **{axis: value})
        steps = {"plain": Plain(case, device), "ours": Ours(case, device, precision=precision)}
        operations = work(steps["ours"]).operations
        seconds = interleaved(steps, device=device, rounds=rounds, warmups=2, least_seconds=0.2)
        took = median(seconds["ours"])
        grown = "" if before is None else f"{math.log(took / before[1]) / math.log(value / before[0]):.2f}"
        before = value, took
        rows.append(
            [
                f"{value:,}",
                f"{1e3 * took:.1f}",
                f"{1e3 * took / case.batch:.2f}",
                grown,
                f"{operations / 1e9:.1f}",
                f"{operations / took / 1e9:.0f}",
                str(ratio(seconds["plain"], seconds["ours"])),
            ]
        )
    return markdown([axis, "ms", "ms an image", "exponent", "GFLOP", "GFLOP/s", "plain / ours"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", default=",".join(AXES))
    parser.add_argument("--values", help="values instead of the axis's own, for one axis")
    parser.add_argument("--batch", type=int, default=BASE.batch, help="images a batch on the other axes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    asked = parser.parse_args(arguments)
    device = hardware.resolve(asked.device)
    base = dataclasses.replace(BASE, batch=asked.batch)
    print(f"{header(device)}; {asked.precision}")
    for axis in asked.axes.split(","):
        values = AXES[axis] if asked.values is None else [int(value) for value in asked.values.split(",")]
        print("\n" + table(axis, values, base, device, rounds=asked.rounds, precision=asked.precision))


if __name__ == "__main__":
    main()
