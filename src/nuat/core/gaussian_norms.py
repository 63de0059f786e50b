"""Norms of Gaussian matrices, against which lambda means the same for any batch and any number of classes.

For large M and N, the nuclear norm of an M x N matrix of independent standard normal numbers is the smaller side times
the square root of the larger times the mean I(r) of the singular values' Marchenko-Pastur law, where r is the ratio of
the sides. Per image that is

    nuc / M = (N / sqrt(M)) I(N / M) for M >= N,    sqrt(N) I(M / N) for M <= N,

where I(r) is about 1 - r / 8, from I(0) = 1 to I(1) = 8 / (3 pi) = 0.849. This is above the mean over matrices by
0.1 to 0.2 % at 64 x 10, 32 x 100 and 256 x 1000, by 1.3 % at 10 x 10 and by 6 % at 1 x 1. The Frobenius norm is
sqrt(M N). Differences of logits are not normal; only the growth with the size of the matrix is taken from here.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from nuat.core.nuclear import NormName

Scale = Literal["batch", "gaussian"]
"""Divisor of the norm of the logit differences: M, or M and the growth of a Gaussian matrix's norm per image."""

PAPERS = (64, 10)
"""Images of a batch and classes at which both scales agree: those of the paper's NuAT on CIFAR-10."""
_POINTS = 2000


@functools.cache
def nuclear_per_image(images: int, classes: int) -> float:
    """Return nuc / M of an M x N Gaussian matrix: ``images`` M >= 1, ``classes`` N >= 1.

    Example:
        >>> from nuat.core.gaussian_norms import nuclear_per_image
        >>> round(nuclear_per_image(64, 10), 2), round(nuclear_per_image(256, 1000), 1)
        (1.23, 30.6)
    """
    small, large = sorted((images, classes))
    return small * math.sqrt(large) * _mean_singular_value(small / large) / images


def frobenius_per_image(images: int, classes: int) -> float:
    """Return the Frobenius norm / M of an M x N Gaussian matrix."""
    return math.sqrt(classes / images)


_PER_IMAGE: dict[NormName, Callable[[int, int], float]] = {
    "nuclear": nuclear_per_image,
    "frobenius": frobenius_per_image,
}


def weight_of(lam: float, logits: Tensor, norm: NormName = "nuclear", scale: Scale = "batch") -> float:
    """Return the weight of ``NORM_TERMS[norm]`` that lambda stands for, with ``logits`` [M, N].

    batch: lambda itself. gaussian: lambda * g(64, 10) / g(M, N), where g is the norm per image of a Gaussian matrix. So
    lambda 4 is the paper's at 64 images of 10 classes, and weighs differences of the same spread alike elsewhere.
    """
    if scale == "batch":
        return lam
    per_image = _PER_IMAGE[norm]
    images, classes = logits.shape
    return lam * (per_image(*PAPERS) / per_image(images, classes))


def _mean_singular_value(ratio: float) -> float:
    """Return the mean of sqrt(x) under the Marchenko-Pastur law of that ratio of the sides, in (0, 1]."""
    low, high = (1.0 - math.sqrt(ratio)) ** 2, (1.0 + math.sqrt(ratio)) ** 2
    # x = middle + half cos(angle) takes the law's square-root ends away; the midpoint rule never meets x = 0
    half, middle = (high - low) / 2, (low + high) / 2
    angles = [(i + 0.5) * math.pi / _POINTS for i in range(_POINTS)]
    weighted = [(half * math.sin(angle)) ** 2 / math.sqrt(middle + half * math.cos(angle)) for angle in angles]
    return math.fsum(weighted) / _POINTS / (2.0 * ratio)
