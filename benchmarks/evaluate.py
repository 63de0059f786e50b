"""The paper's suite by ``nuat.evaluation.evaluate`` against the same attacks called one by one in plain fp32 loops.

    python benchmarks/evaluate.py [RUN|WEIGHTS] [--data cifar10.npz] [--n 100] [--eps 0.3] [--rounds 3] [--device cpu]

Both sides attack the same images from the same random starts, in turn (plain, ours, plain, ours, ...). Plain means what
a script would do: the model as it is loaded, every attack by itself on every image, gradients of the input alone. What
is printed: the seconds of each, their ratio, the passes, and image by image whether the verdicts agree.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nuat import data, hardware
from nuat.attacks.catalogue import SUITES
from nuat.config import DataConfig, ThreatConfig
from nuat.core.pass_counter import PassCounter
from nuat.data import ImageSet, class_balanced, to_float
from nuat.evaluation.evaluate import evaluate
from nuat.evaluation.job_runner import batch_seed
from nuat.evaluation.results import Evaluation
from nuat.hardware import full_precision
from nuat.records import checkpoints
from nuat.records.folder import RunFolder
from nuat.records.settings import read_data_config

BATCH = 250
QUICKSTART = Path(__file__).parent.parent / "results" / "quickstart" / "best.safetensors"
Loss = Callable[[Tensor], Tensor]


def plain(model: nn.Module, images: ImageSet, threat: ThreatConfig, attacks: tuple[str, ...]) -> dict[str, Tensor]:
    """Return which images withstand each attack, bool [n]: one loop an attack."""
    found: dict[str, Tensor] = {}
    for name in attacks:
        flags = torch.zeros(len(images), dtype=torch.bool)
        for seed, part in _parts(model, images, name):
            x, y = to_float(images.images[part]), images.labels[part]
            x_adv = _attacked(model, x, y, name, threat, seed)
            with torch.no_grad():
                flags[part] = ((model(x).argmax(1) == y) & (model(x_adv).argmax(1) == y)).cpu()
        found[name] = flags
    return found


def _parts(model: nn.Module, images: ImageSet, name: str) -> Iterator[tuple[int, Tensor]]:
    """Yield seeds and positions of batches: first the images classified correctly, so that both sides draw alike."""
    with torch.no_grad():
        correct = model(to_float(images.images)).argmax(1) == images.labels
    for kind in (correct, ~correct):
        for start in range(0, int(kind.sum()), BATCH):
            yield batch_seed(0, name, start), kind.nonzero().squeeze(1)[start : start + BATCH]


def _attacked(model: nn.Module, x: Tensor, y: Tensor, name: str, threat: ThreatConfig, seed: int) -> Tensor:
    eps, generator = threat.eps, torch.Generator(x.device).manual_seed(seed)
    kind, _, steps = name.partition("-")
    if kind == "clean":
        return x
    if kind == "fgsm":
        gradient = _gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), x)
        return _project(x + eps * gradient.sign(), x, eps)
    if kind == "pgd":
        x_adv = x + eps * (2.0 * torch.rand(x.shape, generator=generator, device=x.device) - 1.0)
        x_adv = _project(x_adv, x, eps)
        for _ in range(int(steps)):
            gradient = _gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), x_adv)
            x_adv = _project(x_adv + threat.pgd_alpha * gradient.sign(), x, eps)
        return x_adv
    if kind == "gama":
        return _gama(model, x, y, eps, int(steps), generator)
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, norm="Linf", eps=eps, seed=seed, version="standard", device=x.device)
    attack.verbose = False
    with torch.random.fork_rng():
        x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=BATCH)
    return x_adv


def _gama(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, generator: torch.Generator) -> Tensor:
    coin = torch.randint(0, 2, x.shape, generator=generator, device=x.device, dtype=torch.int8)
    x_adv = _project(x + 2 * eps * coin - eps, x, eps)
    with torch.no_grad():
        start = model(x_adv).softmax(1)
    true = F.one_hot(y, start.shape[1]).bool()
    for step in range(steps):
        weight = 50.0 * max(0.0, 1.0 - step / (steps / 4))
        alpha = 2 * eps * 0.1 ** ((step >= 0.6 * steps) + (step >= 0.85 * steps))

        def objective(z: Tensor, weight: float = weight) -> Tensor:
            p = model(z).softmax(1)
            margin = p.masked_fill(true, -1.0).amax(1) - p[true]
            return margin.sum() + weight * (p - start).square().sum()

        x_adv = _project(x_adv + alpha * _gradient(objective, x_adv).sign(), x, eps)
    return x_adv


def _gradient(objective: Loss, x: Tensor) -> Tensor:
    z = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(z), z)
    return gradient


def _project(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    return torch.min(torch.max(x_adv, x - eps), x + eps).clamp(0.0, 1.0)


def agreement(ours: Evaluation, theirs: dict[str, Tensor]) -> list[str]:
    """Return, per attack and in the worst case, on how many images the verdicts agree, and where ours is the milder."""
    pairs = {result.name: (result.correct, theirs[result.name]) for result in ours.results}
    pairs["worst-case"] = (ours.worst_case, torch.stack(list(theirs.values())).all(dim=0))
    return [
        f"{name}: {int((a == b).sum())} of {ours.n} verdicts agree, ours withstands on {int((a & ~b).sum())} where "
        f"plain breaks, and breaks on {int((b & ~a).sum())} where plain does not"
        for name, (a, b) in pairs.items()
    ]


def case(weights: Path, file: Path | None, n: int) -> tuple[ImageSet, ThreatConfig]:
    """Return ``n`` class-balanced test images, of the run's own data or of a file, and the run's ball."""
    config = read_data_config(RunFolder(weights.parent).config) if file is None else DataConfig(path=file, validation=0)
    test = data.load(config).test
    return test.select(class_balanced(test.labels, n, seed=0)), checkpoints.read_info(weights).threat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=QUICKSTART, help="a run or its weights")
    parser.add_argument("--data", type=Path, help="test images instead of the run's own")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--eps", type=float, help="radius instead of the one that the model was trained for")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--suite", default="paper", choices=sorted(SUITES))
    asked = parser.parse_args()
    device = hardware.resolve(asked.device)
    weights = checkpoints.weights_file(asked.model)
    images, threat = case(weights, asked.data, asked.n)
    images, attacks = images.to(device), SUITES[asked.suite]
    if asked.eps is not None:
        threat = replace(threat, eps=asked.eps)
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(asked.rounds):
        model = checkpoints.load(weights, device=device)
        began = time.perf_counter()
        with PassCounter(model) as passes, full_precision():
            theirs = plain(model, images, threat, attacks)
        seconds["plain"].append(time.perf_counter() - began)
        model = checkpoints.load(weights, device=device).to(memory_format=torch.channels_last)
        began = time.perf_counter()
        ours = evaluate(model, images, attacks, threat=threat, batch_size=BATCH)
        seconds["ours"].append(time.perf_counter() - began)
        print(json.dumps({name: round(values[-1], 1) for name, values in seconds.items()}), flush=True)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["ours"], strict=True)]
    spent = [sum(getattr(r, kind) or 0 for r in ours.results) for kind in ("forwards", "backwards")]
    print(f"{weights}, suite {asked.suite}, n {asked.n}, {hardware.describe(device)}, torch {torch.__version__}")
    print("accuracy: " + ", ".join(f"{r.name} {r.accuracy:.1%}" for r in ours.results))
    print(
        f"seconds, median of {asked.rounds}: "
        + ", ".join(f"{k} {statistics.median(v):.1f}" for k, v in seconds.items())
    )
    print(f"ratio plain / ours: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    print(
        f"images forward and backward: plain {passes.forwards:,}, {passes.backwards:,}; ours {spent[0]:,}, {spent[1]:,}"
    )
    print("\n".join(agreement(ours, theirs)))


if __name__ == "__main__":
    main()
