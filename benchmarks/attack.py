"""Our PGD against torchattacks' and foolbox's: the same model, images, steps, eps, alpha and start (the image itself).

    python benchmarks/attack.py [--models resnet18,mnist-cnn] [--batch 64] [--steps 10] [--rounds 5] [--device cpu]

In turn, in float32. ``ours`` gets the model as the others do, ``channels last`` in the layout that training and
evaluation give it. Weights are random: what is compared is the cost, and that all find the same examples.
"""

import argparse
import copy
from collections.abc import Callable, Mapping

import foolbox
import torch
import torchattacks
from measure import Limits, header, interleaved, markdown, median, passes, peak_memory, ratio, work
from torch import Tensor, nn

from nuat import hardware
from nuat.attacks import PGD
from nuat.config import ModelConfig
from nuat.hardware import full_precision
from nuat.models import build

EPS = {"resnet18": (8 / 255, 2 / 255), "mnist-cnn": (0.3, 0.01)}
"""Model to eps and alpha."""
SIZES = {"resnet18": (3, 32), "mnist-cnn": (1, 28)}
"""Model to channels and side [pixels] of its images."""


def contenders(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int
) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    """Return, by name, the model that is attacked and what attacks ``x`` [B, C, H, W] with labels ``y`` [B]."""
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    theirs = torchattacks.PGD(model, eps=eps, alpha=alpha, steps=steps, random_start=False)
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    other = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=alpha, steps=steps, random_start=False)
    ours, ours_fast = (PGD(m, eps=eps, alpha=alpha, steps=steps, random_start=False) for m in (model, fast))
    x_fast = x.to(memory_format=torch.channels_last)
    return {
        "torchattacks": (model, lambda: theirs(x, y)),
        "foolbox": (model, lambda: other(bounded, x, y, epsilons=eps)[1]),
        "ours": (model, lambda: ours(x, y)),
        "ours, channels last": (fast, lambda: ours_fast(x_fast, y)),
    }


def agreement(name: str, x_adv: Mapping[str, Tensor], model: nn.Module) -> str:
    """Return how far an attack's examples are from ours: share of pixels that differ, and of predictions that agree."""
    ours, theirs = x_adv["ours"], x_adv[name]
    pixels = float(((ours - theirs).abs() > 1e-6).double().mean())
    with torch.no_grad():
        same = float((model(ours).argmax(1) == model(theirs).argmax(1)).double().mean())
    return f"{100 * pixels:.2f} %, {100 * same:.0f} %"


def compare(name: str, width: int | None, batch: int, steps: int, rounds: int, device: torch.device) -> str:
    torch.manual_seed(0)
    channels, side = SIZES[name]
    config = ModelConfig(name=name, width=width)
    model = build(config, channels=channels, classes=10, image_size=(side, side)).to(device).eval()
    x = torch.rand(batch, channels, side, side, device=device)
    with torch.no_grad():
        y = model(x).argmax(1)
    eps, alpha = EPS[name]
    attacks = contenders(model, x, y, eps, alpha, steps)
    calls = {key: call for key, (_, call) in attacks.items()}
    seconds = interleaved(calls, device=device, rounds=rounds)
    x_adv = {key: call() for key, call in calls.items()}
    floor = Limits.measure(device).floor(work(calls["ours"]))
    rows = []
    for key, (attacked, call) in attacks.items():
        forward, backward = passes(attacked, call)
        peak = peak_memory(call, device)
        rows.append(
            [
                f"{name}{'' if width is None else f' of width {width}'}, {key}",
                f"{median(seconds[key]):.3f}",
                str(ratio(seconds["torchattacks"], seconds[key])),
                f"{median(seconds[key]) / floor:.2f}",
                f"{forward:,}, {backward:,}",
                "-" if peak is None else f"{peak / 2**20:.0f}",
                agreement(key, x_adv, model),
            ]
        )
    head = ["attack", "s", "torchattacks / it", "over floor", "images forward, backward", "peak, MiB"]
    return markdown([*head, "pixels unlike ours, predictions like ours"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet18,mnist-cnn")
    parser.add_argument("--width", type=int, default=32, help="channels of the ResNet's first stage")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch. None: its own choice")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = hardware.resolve(asked.device)
    print(f"{header(device, [foolbox, torchattacks])}; fp32, {asked.steps} steps, batch of {asked.batch},")
    print(f"median of {asked.rounds} rounds\n")
    with full_precision():
        for name in asked.models.split(","):
            width = asked.width if name == "resnet18" else None
            print(compare(name, width, asked.batch, asked.steps, asked.rounds, device), flush=True)
            print()


if __name__ == "__main__":
    main()
