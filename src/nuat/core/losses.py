"""Losses on logits, each with its reduction, taken in float32 or wider even under autocast.

Labels ``y`` are hard, int64 [B], or, where a function says so, soft: the share of each class in an image, float [B, N].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nuat.errors import InputError


def wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 where they already are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def soft_labels(y: Tensor, classes: int, smoothing: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return labels [B, N] that give ``smoothing`` / N to every class, and the rest to the true class ``y`` int64 [B].

    Source: label smoothing, Szegedy et al. 2016, section 7.

    Example:
        >>> import torch
        >>> from nuat.core.losses import soft_labels
        >>> soft_labels(torch.tensor([2]), 4, 0.4)
        tensor([[0.1000, 0.1000, 0.7000, 0.1000]])
    """
    true = y[:, None] == torch.arange(classes, device=y.device)  # F.one_hot asks a CPU for the values of y
    return (1.0 - smoothing) * true.to(dtype) + smoothing / classes


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy over the batch, scalar; ``logits`` [B, N], ``y`` hard or soft."""
    return F.cross_entropy(wide(logits), y)


def cross_entropy_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the cross-entropies; its gradient in one image does not depend on the others."""
    return F.cross_entropy(wide(logits), y, reduction="sum")


def least_cross_entropy(y: Tensor) -> Tensor | float:
    """Return the least mean cross-entropy that any logits have: the mean entropy of soft labels, 0 for hard ones."""
    return torch.special.entr(y).sum(dim=1).mean() if y.is_floating_point() else 0.0


def logit_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return, per image [B], the largest logit of a wrong class minus that of the true class: max_{j != y} z_j - z_y.

    Positive where the model is wrong. Source: Carlini and Wagner 2017, the loss f_6 without its floor.

    Raises:
        InputError: the labels are soft.
    """
    _check_hard("logit_margin", y)
    true = wide(logits).gather(1, y[:, None]).squeeze(1)
    others = wide(logits).scatter(1, y[:, None], float("-inf"))
    return others.amax(dim=1) - true


def margin_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the logit margins; its gradient in one image does not depend on the others."""
    return logit_margin(logits, y).sum()


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return, per image [B], the largest probability of a wrong class minus that of the true class, in [-1, 1].

    Source: Sriramanan et al. 2020 (GAMA), the maximum-margin term on softmax outputs.

    Raises:
        InputError: the labels are soft.
    """
    _check_hard("probability_margin", y)
    probabilities = wide(logits).softmax(dim=1)
    true = probabilities.gather(1, y[:, None]).squeeze(1)
    others = probabilities.scatter(1, y[:, None], float("-inf"))
    return others.amax(dim=1) - true


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over the batch of ||a_i - b_i||_2^2, scalar, for two [B, N] matrices."""
    return (wide(a) - wide(b)).square().sum(dim=1).mean()


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the mean over the batch of KL(softmax(reference) || softmax(logits)), scalar, for [B, N] logits.

    Source: TRADES (Zhang et al. 2019), where ``reference`` are the logits of the clean images.
    """
    log_reference = wide(reference).log_softmax(dim=1)
    return F.kl_div(wide(logits).log_softmax(dim=1), log_reference, reduction="batchmean", log_target=True)


def js_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean over the batch of JS(softmax(logits), softmax(others)), scalar in [0, log 2], for [B, N] logits.

    Half the sum of both divergences from their mean (Lin 1991, Eq. 4.1 with equal weights).
    """
    p, q = wide(logits).log_softmax(dim=1), wide(others).log_softmax(dim=1)
    middle = torch.logaddexp(p, q) - math.log(2.0)
    from_p, from_q = (F.kl_div(middle, of, reduction="batchmean", log_target=True) for of in (p, q))
    return (from_p + from_q) / 2


def _check_hard(name: str, y: Tensor) -> None:
    if y.is_floating_point():
        raise InputError(
            f"{name}: a margin needs one class an image, and these labels are soft; take cross_entropy, or leave "
            "defense.smoothing and data.cutmix out."
        )
