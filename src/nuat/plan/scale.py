"""How the nuclear norm grows with the batch and the classes: by what lambda is to be scaled.

The nuclear norm of an M x C matrix of independent standard normal numbers is, for large sizes, the smaller side times
the square root of the larger times the mean I(r) of the singular values' Marchenko-Pastur law, where r is the ratio of
the sides. Per image that is

    nuc / M = (C / sqrt(M)) I(C / M) for M >= C,    sqrt(C) I(M / C) for M <= C,

with I(r) = 1 - r / 8 about, between I(0) = 1 and I(1) = 8 / (3 pi) = 0.849. Differences of logits are not normal; what
is used here is how the value changes with the size of the matrix.
"""

import math

import numpy as np

_POINTS = 20_000


def nuclear_per_image(images: int, classes: int) -> float:
    """Return nuc / M of an M x C Gaussian matrix: ``images`` M >= 1, ``classes`` C >= 1."""
    small, large = sorted((images, classes))
    return small * math.sqrt(large) * _mean_singular_value(small / large) / images


def lambda_factor(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the factor on lambda that keeps lambda nuc / M where (M, C) changes from ``before`` to ``after``."""
    return nuclear_per_image(*before) / nuclear_per_image(*after)


def scale_warnings(before: tuple[int, int], after: tuple[int, int], lam: float | None) -> list[str]:
    """Return what should be changed with the batch and the classes, a line each.

    Args:
        before: images a batch and classes that a recipe's settings are for.
        after: those that are planned.
        lam: lambda's peak, if it is the recipe's own; none: there is none, or somebody has chosen it.
    """
    told = []
    factor = lambda_factor(before, after)
    if lam is not None and not 0.9 < factor < 1.1:
        told.append(
            f"lambda is not scale-free: nuc / M of Gaussian differences is {nuclear_per_image(*after):.2f} with "
            f"{after[0]} images and {after[1]} classes, {nuclear_per_image(*before):.2f} with the recipe's {before[0]} "
            f"and {before[1]}. To keep its weight: --defense.lam.peak {lam * factor:.3g}."
        )
    if not 0.5 < after[0] / before[0] < 2.0:
        told.append(
            f"the learning rate is for batches of {before[0]}: in proportion, a rule that does not hold at all sizes, "
            f"it would be {after[0] / before[0]:.3g} times that with a warm-up, and an average's decay tau ** "
            f"{after[0] / before[0]:.3g}."
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
