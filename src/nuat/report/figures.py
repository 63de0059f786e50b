"""Figures of a run, drawn from its records and its model: no display needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from nuat.attacks import PGD, eval_mode
from nuat.config import ThreatConfig
from nuat.data import ImageSet, class_balanced, to_float
from nuat.files import atomic_write
from nuat.report.tables import eps_text

# Okabe and Ito's colours, told apart also by the colour-blind
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#555555"


def training_curves(metrics: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw losses, validation accuracies, learning rate and lambda over the epochs to ``path`` (PNG or SVG).

    Args:
        metrics: the lines of a run's metrics, of which the epochs are drawn.
        path: file to write, whole.
    """
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    x = [line["epoch"] for line in epochs]
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    losses, accuracies, settings = figure.subplots(1, 3)
    for name, colour in (("loss", _GREY), ("clean_loss", _BLUE), ("nuclear", _ORANGE)):
        if epochs and name in epochs[-1]["train"]:
            losses.plot(x, [line["train"].get(name) for line in epochs], color=colour, label=name.replace("_", " "))
    _label(losses, "training loss", "mean over the epoch")
    for which, dashes in (("live", "-"), ("averaged", "--")):
        for name, label, colour in (("clean", "clean", _BLUE), ("fgsm", "FGSM", _GREEN), ("pgd", "PGD-7", _ORANGE)):
            values = [100 * line["validation"][which][name] for line in epochs if which in line["validation"]]
            if values:
                text = label if which == "live" else f"{label}, averaged weights"
                accuracies.plot(x, values, color=colour, linestyle=dashes, label=text)
    _label(accuracies, "validation accuracy", "%")
    accuracies.set_ylim(0, 100)
    settings.plot(x, [line["lr"] for line in epochs], color=_BLUE, label="learning rate")
    _label(settings, "schedules", "learning rate")
    if epochs and "lam" in epochs[-1]["train"]:
        other = settings.twinx()
        other.plot(x, [line["train"].get("lam") for line in epochs], color=_ORANGE, label="lambda")
        other.set_ylabel("lambda", color=_ORANGE)
        settings.yaxis.label.set_color(_BLUE)
        if settings.get_legend() is not None:
            settings.get_legend().remove()
    _save(figure, path)


def adversarial_examples(
    model: nn.Module,
    images: ImageSet,
    classes: Sequence[str],
    threat: ThreatConfig,
    path: Path,
    *,
    count: int = 10,
    seed: int = 0,
) -> None:
    """Draw ``count`` images clean, their PGD-50 perturbations, and attacked, each with the model's prediction.

    The frame is green where the prediction is right and orange where it is wrong.
    """
    device = next(p.device for p in model.parameters())
    chosen = images.select(class_balanced(images.labels.cpu(), min(count, len(images)), seed=seed)).to(device)
    x, y = to_float(chosen.images), chosen.labels
    generator = torch.Generator(device).manual_seed(seed)
    x_adv = PGD(model, eps=threat.eps, alpha=threat.pgd_alpha, steps=50, generator=generator)(x, y)
    with eval_mode(model), torch.no_grad():
        predictions = model(x).argmax(dim=1).tolist(), model(x_adv).argmax(dim=1).tolist()
    perturbation = (x_adv - x) / (2 * threat.eps) + 0.5
    figure = Figure(figsize=(0.95 * len(y) + 0.9, 3.3), layout="constrained")
    axes = figure.subplots(3, len(y), squeeze=False)
    for column, label in enumerate(y.tolist()):
        for row, picture in enumerate((x, perturbation, x_adv)):
            axis = axes[row, column]
            _show(axis, picture[column])
            if row != 1:
                predicted = predictions[row // 2][column]
                colour = _GREEN if predicted == label else _ORANGE
                axis.set_title(classes[predicted], fontsize=8, color=colour)
                for side in axis.spines.values():
                    side.set(edgecolor=colour, linewidth=1.5)
    for row, text in enumerate(("clean", "perturbation", "attacked")):
        axes[row, 0].set_ylabel(text, fontsize=9)
    figure.suptitle(f"PGD-50 within Linf eps {eps_text(threat.eps)}; above each image the prediction", fontsize=10)
    _save(figure, path)


def _show(axis: Axes, image: Tensor) -> None:
    pixels = image.clamp(0, 1).cpu().permute(1, 2, 0)
    axis.imshow(pixels.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def _label(axis: Axes, title: str, unit: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch")
    axis.set_ylabel(unit)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8, frameon=False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
