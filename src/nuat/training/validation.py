"""Validation during training, which chooses the best epoch and feeds the monitors."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nuat.attacks import FGSM, PGD, eval_mode
from nuat.data import ImageSet, batches, class_balanced, to_float
from nuat.distributed.world import ALONE, World
from nuat.errors import NonFiniteError
from nuat.hardware import full_precision

PGD_STEPS = 7


def validate(
    model: nn.Module, images: ImageSet, *, eps: float, batch_size: int, world: World = ALONE
) -> dict[str, float]:
    """Return the clean loss and the accuracies, in [0, 1], on ``images`` (at least one) in evaluation mode and fp32.

    ``clean_loss`` is the mean cross-entropy; ``clean``, ``fgsm`` and ``pgd`` are accuracies. ``pgd`` is I-FGSM: 7 steps
    of eps / 7 from the image itself, by which the authors' scripts choose the best epoch.

    Several processes share the images, and each returns the result of all.

    Raises:
        NonFiniteError: on every process, if the model is infinite or NaN on any.
    """
    own = images.select(torch.arange(world.rank, len(images), world.size)) if world.size > 1 else images
    failure: NonFiniteError | None = None
    totals = torch.zeros(4, dtype=torch.float64, device=images.images.device)
    try:
        totals = _totals(model, own, eps, batch_size)
    except NonFiniteError as error:
        failure = error
    if world.any(failure is not None):
        raise failure or NonFiniteError("the model is infinite or NaN on another process's validation images.")
    mean = (world.sum([totals])[0] / len(images)).tolist()
    return dict(zip(("clean_loss", "clean", "fgsm", "pgd"), mean, strict=True))


def _totals(model: nn.Module, images: ImageSet, eps: float, batch_size: int) -> Tensor:
    """Return the sum of the clean losses and the numbers of correct predictions, float64 [4]."""
    fgsm, pgd = FGSM(model, eps=eps), _pgd(model, eps)
    totals = torch.zeros(4, dtype=torch.float64, device=images.images.device)
    with eval_mode(model), full_precision(), torch.no_grad():
        for x, y in batches(images, batch_size):
            logits = model(x)
            correct = [logits.argmax(dim=1) == y, *(model(attack(x, y)).argmax(dim=1) == y for attack in (fgsm, pgd))]
            loss = F.cross_entropy(logits, y, reduction="sum")
            totals += torch.stack([loss, *(flags.sum() for flags in correct)])
    return totals


def clean_and_attacked(model: nn.Module, images: ImageSet, *, eps: float, count: int = 8) -> NDArray[np.uint8]:
    """Return ``count`` images, class-balanced, in a row, and below them the same under the PGD of the validation.

    Returns:
        uint8 [2 H, count W, 3]; grey where the images have one channel. ``images`` have one or three, and are at least
        one.

    Raises:
        NonFiniteError: the gradients of the model are infinite or NaN.
    """
    shown = images.select(class_balanced(images.labels.cpu(), min(count, len(images)), seed=0))
    x = to_float(shown.images)
    with eval_mode(model), full_precision():
        rows = [torch.cat(list(part), dim=2) for part in (x, _pgd(model, eps)(x, shown.labels))]
    grid = (255 * torch.cat(rows, dim=1)).round().to(torch.uint8).expand(3, -1, -1)
    pixels: NDArray[np.uint8] = grid.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels


def _pgd(model: nn.Module, eps: float) -> PGD:
    return PGD(model, eps=eps, alpha=eps / PGD_STEPS, steps=PGD_STEPS, random_start=False)
