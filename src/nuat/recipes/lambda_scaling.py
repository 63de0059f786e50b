"""Growth of the nuclear norm with the batch and the classes, by which lambda is to be scaled.

The nuclear norm of an M x C matrix of independent standard normal numbers is, for large sizes, the smaller side times
the square root of the larger times the mean I(r) of the singular values' Marchenko-Pastur law, where r is the ratio of
the sides. Per image that is

    nuc / M = (C / sqrt(M)) I(C / M) for M >= C,    sqrt(C) I(M / C) for M <= C,

with I(r) = 1 - r / 8 about, between I(0) = 1 and I(1) = 8 / (3 pi) = 0.849. Differences of logits are not normal; only
the growth with the size of the matrix is taken from here.
"""

import math

import numpy as np

_POINTS = 20_000


def nuclear_per_image(images: int, classes: int) -> float:
    """Return nuc / M of an M x C Gaussian matrix: ``images`` M >= 1, ``classes`` C >= 1."""
    small, large = sorted((images, classes))
    return small * math.sqrt(large) * _mean_singular_value(small / large) / images


def lambda_factor(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the factor on lambda that keeps lambda nuc / M when (M, C) changes from ``before`` to ``after``."""
    return nuclear_per_image(*before) / nuclear_per_image(*after)


def scale_warnings(before: tuple[int, int], after: tuple[int, int], lam: float | None) -> list[str]:
    """Return the settings that should change with the batch and the classes, a line each.

    Args:
        before: images a batch and classes that the recipe's settings are for.
        after: images a batch and classes of the plan.
        lam: lambda's peak, if it is the recipe's own. None: there is none, or the user has chosen it.
    """
    told = []
    factor = lambda_factor(before, after)
    if lam is not None and not 0.9 < factor < 1.1:
        told.append(
            f"lambda is not scale-free: nuc / M of Gaussian differences is {nuclear_per_image(*after):.2f} with "
            f"{after[0]} images and {after[1]} classes, {nuclear_per_image(*before):.2f} with the recipe's {before[0]} "
            f"and {before[1]}. To keep its weight: --defense.lam.peak {lam * factor:.3g}."
        )
    ratio = after[0] / before[0]
    if not 0.5 < ratio < 2.0:
        told.append(
            f"the learning rate is for batches of {before[0]}. In proportion, which is a rule of thumb, it would be "
            f"{ratio:.3g} times that, with a warm-up, and the decay of an average tau ** {ratio:.3g}."
        )
    return told


def _mean_singular_value(ratio: float) -> float:
    """Return the mean of sqrt(x) under the Marchenko-Pastur law of that ratio of the sides, in (0, 1]."""
    low, high = (1.0 - math.sqrt(ratio)) ** 2, (1.0 + math.sqrt(ratio)) ** 2
    # x = middle + half cos(angle) takes the law's square-root ends away; the midpoint rule never meets x = 0
    angle = (np.arange(_POINTS) + 0.5) * math.pi / _POINTS
    half = (high - low) / 2
    x = (low + high) / 2 + half * np.cos(angle)
    density = (half * np.sin(angle)) ** 2 / (2.0 * math.pi * ratio * x)
    return float((np.sqrt(x) * density).mean() * math.pi)
