"""Losses on logits, each with its reduction, taken in float32 or wider even under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 where they already are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy over the batch, scalar; ``logits`` [B, N], ``y`` int64 [B]."""
    return F.cross_entropy(wide(logits), y)


def cross_entropy_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the cross-entropies; its gradient in one image does not depend on the others."""
    return F.cross_entropy(wide(logits), y, reduction="sum")


def logit_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return, per image [B], the largest logit of a wrong class minus that of the true class: max_{j != y} z_j - z_y.

    Positive where the model is wrong. Source: Carlini and Wagner 2017, the loss f_6 without its floor.
    """
    true = wide(logits).gather(1, y[:, None]).squeeze(1)
    others = wide(logits).scatter(1, y[:, None], float("-inf"))
    return others.amax(dim=1) - true


def margin_sum(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the logit margins; its gradient in one image does not depend on the others."""
    return logit_margin(logits, y).sum()


def probability_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return, per image [B], the largest probability of a wrong class minus that of the true class, in [-1, 1].

    Source: Sriramanan et al. 2020 (GAMA), the maximum-margin term on softmax outputs.
    """
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
