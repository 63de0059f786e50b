"""Models and images whose analyses have closed forms, and finished runs on disk."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.core.threat import Norm
from nuat.data import ImageSet
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.figures.figure_record import ModelIdentity
from nuat.figures.measuring import NamedModel

CLASSES, SIZE = 3, 4


class Linear(nn.Module):
    """Logits W x + b of images [B, 1, 4, 4]."""

    def __init__(self, scale: float = 3.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(scale * torch.randn(CLASSES, SIZE * SIZE, generator=generator))
        self.bias = nn.Parameter(torch.randn(CLASSES, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def images(n: int = 12, *, low: int = 100, high: int = 156) -> ImageSet:
    """Return grey noise far from 0 and 255, labels in turn."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(low, high, (n, 1, SIZE, SIZE), generator=generator)
    return ImageSet(pixels.to(torch.uint8), torch.arange(n) % CLASSES)


def right_images(model: nn.Module, n: int = 12) -> ImageSet:
    """Return noise labelled as ``model`` sees it."""
    drawn = images(n)
    return ImageSet(drawn.images, model(drawn.images / 255).argmax(dim=1))


def named(model: nn.Module, name: str = "linear") -> NamedModel:
    return NamedModel(ModelIdentity(name=name, weights_sha256="0" * 64), model)


def epoch_line(epoch: int, *, lam: float | None = None, pgd: float = 0.5) -> dict[str, Any]:
    train = {"loss": 2.0 / epoch, "clean_loss": 1.5 / epoch, **({} if lam is None else {"nuclear": 0.3, "lam": lam})}
    live = {"clean_loss": 1.0, "clean": 0.9, "fgsm": 0.6, "pgd": pgd}
    costs = {"seconds": 3.0 * epoch, "forwards": 100 * epoch, "backwards": 50 * epoch}
    return {"kind": "epoch", "epoch": epoch, "lr": 0.1 / epoch, "train": train, "validation": {"live": live}, **costs}


def write_run(
    folder: Path,
    *,
    recipe: str = "ours",
    seed: int = 0,
    defense: dict[str, Any] | None = None,
    lam: float | None = None,
    accuracies: dict[str, float] | None = None,
    epochs: int = 2,
    n: int = 20,
    extra: tuple[dict[str, Any], ...] = (),
    data: str = "mnist",
    eps: float = 0.3,
    lr: float = 0.1,
    network: str = "small-cnn",
) -> Path:
    """Write what a run leaves, without weights."""
    folder.mkdir(parents=True)
    config = {
        "defense": defense or ({"class": "PGDAT"} if lam is None else {"class": "NuAT", "lam": {"peak": lam}}),
        "data": {"name": data, "path": None},
        "model": {"name": network, "width": None},
        "threat": {"eps": eps, "pgd_alpha": eps / 10},
        "optimizer": {"lr": {"peak": lr}},
        "epochs": max(1, epochs),
        "seed": seed,
    }
    (folder / "config.json").write_text(json.dumps({"recipe": recipe, "config": config}))
    (folder / "environment.json").write_text(json.dumps({"hardware": "a machine"}))
    lines = [epoch_line(e, lam=None if lam is None else lam * e / epochs) for e in range(1, epochs + 1)]
    last = {key: lines[-1][key] for key in ("seconds", "forwards", "backwards")} if lines else {}
    lines += [*extra, {"kind": "end", "epochs": epochs, "best_epoch": epochs, **last}] if lines else extra
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if accuracies:
        evaluation(accuracies, n=n, eps=eps).save(folder / "evaluation.json")
    return folder


def evaluation(accuracies: dict[str, float], *, n: int = 20, eps: float = 0.3, norm: Norm = "Linf") -> Evaluation:
    results = tuple(
        AttackResult(name, {}, torch.arange(n) < round(value * n), 1.0, n, n) for name, value in accuracies.items()
    )
    return Evaluation(results, torch.arange(n), eps, 0, n, "a machine", norm=norm)


def write_row(folder: Path, label: str, *, seed: int = 0, status: str = "done", **changes: Any) -> Path:
    """Write the record of a campaign's row."""
    row = {
        "status": status, "label": label, "recipe": label, "seed": seed, "eps": 0.3, "hardware": "a machine",
        "epochs": 2, "best_epoch": 1, "forwards": 1_000_000, "backwards": 500_000,
        "seconds": {"training": 10.0, "main": 1.0}, "reason": "it diverged",
        "suites": {"main": {"images": "test", "n": 100, "accuracies": {"clean": 0.9, "pgd-100": 0.5}}}, **changes,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "row.json").write_text(json.dumps(row))
    return folder
