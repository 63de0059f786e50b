"""Passes of an attack: the model, its folded copy, and this copy compiled, in each arithmetic of a search.

    python benchmarks/passes.py [--width 64] [--batch 1000] [--rounds 9] [--device cpu] [--compile true]

A ResNet-18 for images of 32 x 32 pixels, random weights, channels last. All passes of an arithmetic run in turn. A
compiled copy that differs from the eager one beyond rounding is named instead of measured, as ``nuat evaluate
--compile`` does.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from measure import header, interleaved, markdown, median, ratio
from torch import Tensor, nn

from nuat import hardware
from nuat.config import ModelConfig
from nuat.evaluation.compiled_copy import CompiledCopy, settings_for_compiling
from nuat.evaluation.search_precision import Bf16Forward
from nuat.hardware import computing_in
from nuat.models import build
from nuat.models.folding import folded


def forward(model: nn.Module, x: Tensor) -> Callable[[], object]:
    def call() -> None:
        with torch.no_grad():
            model(x)

    return call


def both(model: nn.Module, x: Tensor) -> Callable[[], object]:
    def call() -> None:
        z = x.detach().requires_grad_()
        torch.autograd.grad(model(z).logsumexp(dim=1).sum(), z)

    return call


def compare(model: nn.Module, x: Tensor, precision: str, *, rounds: int, compiled: bool) -> list[str]:
    """Time the passes in one arithmetic; return the lines of its report."""
    lines, head = [], ["passes", "forward and backward, images/s", "model / it", "forward, images/s", "model / it"]
    with computing_in(precision), settings_for_compiling(compiled):
        copy = folded(model, x[:32], torch.arange(len(x[:32]), device=x.device) % 10)
        models = {"model": model, "folded": copy}
        if precision == "bf16":
            models = {name: Bf16Forward(one) for name, one in models.items()}
        if compiled:
            began = time.perf_counter()
            found = CompiledCopy(models["folded"], x, precision)
            forward(found, x)()  # compiled apart
            lines.append(f"{precision}: {time.perf_counter() - began:.0f} s to compile and compare. {found.note}")
            models |= {} if found.note else {"folded, compiled": found}
        seconds = {
            kind: interleaved({name: kind(one, x) for name, one in models.items()}, device=x.device, rounds=rounds)
            for kind in (both, forward)
        }
    rows = []
    for name in models:
        row = [f"{precision}, {name}"]
        for found_seconds in seconds.values():
            row += [
                f"{len(x) / median(found_seconds[name]):,.0f}",
                str(ratio(found_seconds["model"], found_seconds[name])),
            ]
        rows.append(row)
    return [*lines, "", markdown(head, rows), ""]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, help="channels of the first stage; default: the network's own")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", choices=["true", "false"], default="true")
    asked = parser.parse_args(arguments)
    device = hardware.resolve(asked.device)
    torch.manual_seed(0)
    network = build(ModelConfig(name="resnet18", width=asked.width), channels=3, classes=10, image_size=(32, 32))
    model = network.to(device).to(memory_format=torch.channels_last).eval()
    x = torch.rand(asked.batch, 3, 32, 32, device=device)
    print(f"{header(device)}; batch of {asked.batch}, median of {asked.rounds} rounds\n")
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        print(
            "\n".join(compare(model, x, precision, rounds=asked.rounds, compiled=asked.compile == "true")), flush=True
        )


if __name__ == "__main__":
    main()
