"""A training step of NuAT, ours beside the published one: seconds, counts, memory and how far from the floor.

    python benchmarks/step.py [--models resnet18,mnist-cnn] [--batch 64] [--rounds 5] [--device cpu] [--compile true]
                              [--profile true]

All steps run in turn in one process. The floor is what the step's own convolutions and matrix products take at the
measured rate of a large matrix product in the same arithmetic. On a GPU both are timed without and with TF32, the
published step also with TF32 and channels_last, and ours also as CUDA graphs; --profile lists the ten kernels that take
the most time.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measure import Limits, header, interleaved, markdown, median, passes, peak_memory, ratio, synchronise, work
from plain_step import CASES, Case, Ours, Plain, tf32_set
from torch import Tensor, nn

from nuat import hardware

Make = Callable[[Case, torch.device], Any]
Arithmetic = tuple[torch.dtype, bool]
"""The type of number in which a step multiplies, and whether TF32 is allowed for it."""
GRAPH = ", graph"
LAID_OUT = "plain, TF32, channels_last"


def contenders(device: torch.device, *, compiled: bool) -> dict[str, tuple[Make, Arithmetic]]:
    """Return, by name, what makes a step and its arithmetic."""
    fp32, tf32, bf16 = (torch.float32, False), (torch.float32, True), (torch.bfloat16, True)
    found: dict[str, tuple[Make, Arithmetic]] = {"plain": (Plain, fp32)}
    ours: dict[str, tuple[dict[str, Any], Arithmetic]] = {"fp32": ({}, fp32)}
    if device.type == "cuda":
        found["plain, TF32"] = (lambda c, d: Plain(c, d, tf32=True), tf32)
        found[LAID_OUT] = (lambda c, d: Plain(c, d, tf32=True, channels_last=True), tf32)
        ours["TF32"] = ({"tf32": True}, tf32)
    ours["bf16"] = ({"precision": "bf16", "tf32": True}, bf16)
    for name, (settings, arithmetic) in ours.items():
        variants = [{}, {"compiled": True}] if compiled else [{}]
        if device.type == "cuda":
            variants += [{**how, "graph": True} for how in variants]
        for how in variants:
            label = ", ".join((f"ours, {name}", *how))
            found[label] = (lambda c, d, s={**settings, **how}: Ours(c, d, **s), arithmetic)
    return found


def losses(step: Callable[[], Tensor], count: int = 4) -> list[float]:
    """Return the losses of the first steps."""
    return [float(step()) for _ in range(count)]


def compare(case: Case, device: torch.device, *, rounds: int, compiled: bool, size: int | None = None) -> list[str]:
    """Time one case; return the lines of its report."""
    made = {name: (make(case, device), kind) for name, (make, kind) in contenders(device, compiled=compiled).items()}
    lines, first = [], {}
    for name, (step, _) in made.items():
        began = time.perf_counter()
        first[name] = losses(step)
        if "compiled" in name:
            lines.append(f"{name}: {time.perf_counter() - began:.0f} s for the first four steps, compilation included.")
    seconds = interleaved({name: step for name, (step, _) in made.items()}, device=device, rounds=rounds)
    limits = {}
    for kind in dict.fromkeys(kind for _, kind in made.values()):
        with tf32_set(kind[1]):
            limits[kind] = Limits.measure(device, kind[0], size=size)
    baselines = [name for name in ("plain", LAID_OUT) if name in made]
    rows = []
    for name, (step, kind) in made.items():
        eager = made[name.removesuffix(GRAPH)][0]  # nothing is seen of what a graph does
        spent, (forwards, backwards) = work(eager), passes(eager.model, eager)
        took, floor = median(seconds[name]), spent.operations / limits[kind].matrix_rate
        peak = peak_memory(step, device)
        rows.append(
            [
                name,
                f"{1e3 * took:.0f}",
                *(str(ratio(seconds[theirs], seconds[name])) for theirs in baselines),
                f"{forwards / case.batch:.0f}, {backwards / case.batch:.0f}",
                f"{spent.operations / 1e9:.1f}",
                f"{1e3 * floor:.0f}",
                f"{took / floor:.2f}",
                "" if peak is None else f"{peak / 2**20:.0f}",
                " ".join(f"{loss:.4f}" for loss in first[name]),
            ]
        )
    head = ["step", "ms", *(f"{theirs} / it" for theirs in baselines), "passes forward, backward"]
    head += ["GFLOP", "floor, ms", "times the floor"]
    rates = "; ".join(
        f"{str(kind).removeprefix('torch.')}{', TF32' if tf32 and kind == torch.float32 else ''}: {limit}"
        for (kind, tf32), limit in limits.items()
    )
    return [*lines, rates, "", markdown([*head, "peak, MiB", "first losses"], rows), "", same_losses(case, device)]


def same_losses(case: Case, device: torch.device) -> str:
    """Return how far our losses are from the published step's, with its two clean passes, from the same weights."""
    theirs = losses(Plain(case, device), 2)
    ours = losses(Ours(case, device, passes="authors"), 2)
    most = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    return f"First two losses with the authors' passes, fp32, against plain: largest relative difference {most:.1e}."


def profile(step: Callable[[], object], device: torch.device) -> str:
    """Return the ten kernels that take the most time in two steps."""
    cuda = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(2):
            step()
        synchronise(device)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=10, max_name_column_width=60)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet18,mnist-cnn", help=f"of {', '.join(CASES)}")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, help="channels of the first stage; default: the network's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", choices=["true", "false"], default="false")
    parser.add_argument("--profile", choices=["true", "false"], default="false")
    parser.add_argument("--matrix", type=int, help="rows of the matrices that the rate is measured with")
    asked = parser.parse_args(arguments)
    device = hardware.resolve(asked.device)
    print(header(device))
    for name in asked.models.split(","):
        case = dataclasses.replace(CASES[name], batch=asked.batch, width=asked.width)
        print(f"\n{name}, batch {case.batch}, {parameters(case.network(device)):,} parameters\n")
        compiled = asked.compile == "true"
        print("\n".join(compare(case, device, rounds=asked.rounds, compiled=compiled, size=asked.matrix)))
        if asked.profile == "true":
            for label, (make, _) in contenders(device, compiled=compiled).items():
                step = make(case, device)
                losses(step, 2)
                print(f"\n{label}\n{profile(step, device)}")


def parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
