"""Figures of a run, drawn from its records and its model: no display needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from nuat.analysis.training_curves import TrainingCurves, curves_of
from nuat.attacks import PGD, eval_mode
from nuat.config import ThreatConfig
from nuat.core.eps import eps_text
from nuat.data import Images, class_balanced, to_float
from nuat.report.plots import style, training


def training_curves(metrics: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw losses, validation accuracies, schedules, alarms and switches over the epochs to ``path`` (PNG or SVG).

    Args:
        metrics: the lines of a run's metrics, of which the epochs are drawn.
        path: file to write, whole.
    """
    curves = curves_of(metrics, name="", seed=None)
    style.save(training.draw([TrainingCurves(runs=(curves,))]), path)


def adversarial_examples(
    model: nn.Module,
    images: Images,
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
                colour = style.GREEN if predicted == label else style.VERMILION
                axis.set_title(classes[predicted], fontsize=8, color=colour)
                for side in axis.spines.values():
                    side.set(edgecolor=colour, linewidth=1.5)
    for row, text in enumerate(("clean", "perturbation", "attacked")):
        axes[row, 0].set_ylabel(text, fontsize=9)
    figure.suptitle(f"PGD-50 within Linf eps {eps_text(threat.eps)}; above each image the prediction", fontsize=10)
    style.save(figure, path)


def _show(axis: Axes, image: Tensor) -> None:
    pixels = image.clamp(0, 1).cpu().permute(1, 2, 0)
    axis.imshow(pixels.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
