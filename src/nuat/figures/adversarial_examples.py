"""Picture of adversarial examples: images of each class clean and attacked, with what the model predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nuat.attacks import PGD, eval_mode
from nuat.config import ThreatConfig
from nuat.core.eps import threat_text
from nuat.data import Images, class_balanced, to_float
from nuat.figures import style


def save(
    model: nn.Module,
    images: Images,
    classes: Sequence[str],
    threat: ThreatConfig,
    path: Path,
    *,
    count: int = 10,
    seed: int = 0,
) -> None:
    """Draw ``count`` images clean, their PGD-50 perturbations, and the attacked images to ``path``.

    Above each column stands the true class, below each image the prediction of the model: green where it is right,
    orange where it is wrong.
    """
    device = next(p.device for p in model.parameters())
    chosen = images.select(class_balanced(images.labels.cpu(), min(count, len(images)), seed=seed)).to(device)
    x, y = to_float(chosen.images), chosen.labels
    generator = torch.Generator(device).manual_seed(seed)
    x_adv = PGD(model, eps=threat.eps, norm=threat.norm, alpha=threat.pgd_alpha, steps=50, generator=generator)(x, y)
    with eval_mode(model), torch.no_grad():
        clean, attacked = (model(seen).argmax(dim=1).tolist() for seen in (x, x_adv))
    largest = threat.eps if threat.norm == "Linf" else max(float((x_adv - x).abs().max()), 1e-12)
    perturbation = (x_adv - x) / (2 * largest) + 0.5
    with style.applied():
        figure = style.new_figure(0.95 * len(y) + 0.9, 3.6)
        axes = figure.subplots(3, len(y), squeeze=False)
        for column, label in enumerate(y.tolist()):
            axes[0, column].set_title(style.class_name(classes[label]))
            for row, picture in enumerate((x, perturbation, x_adv)):
                _show(axes[row, column], picture[column])
            for row, predicted in ((0, clean[column]), (2, attacked[column])):
                _frame(axes[row, column], style.class_name(classes[predicted]), right=predicted == label)
        for row, text in enumerate(("clean", "perturbation", "attacked")):
            axes[row, 0].set_ylabel(text)
        told = f"PGD-50 within {threat_text(threat.norm, threat.eps)}. Above: true class. Below each image: prediction"
        figure.suptitle(told, fontsize=9)
    style.save(figure, path)


def _show(axis: Any, image: Tensor) -> None:
    pixels = image.clamp(0, 1).cpu().permute(1, 2, 0)
    axis.imshow(pixels.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def _frame(axis: Any, prediction: str, *, right: bool) -> None:
    colour = style.GREEN if right else style.VERMILION
    axis.set_xlabel(prediction, color=colour)
    for side in axis.spines.values():
        side.set(visible=True, edgecolor=colour, linewidth=1.5)
