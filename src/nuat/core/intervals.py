"""Intervals of proportions."""

import math

from torch import Tensor

Z_95 = 1.959963984540054
"""Standard deviations from the mean within which 95 % of a normal distribution lie."""


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927), both ends in [0, 1]; n >= 1, whole or not."""
    z = Z_95
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def clustered_interval(verdicts: Tensor) -> tuple[float, float]:
    """Return the 95 % interval of the mean of bool [k, n]: k verdicts on each of n images drawn at random.

    The verdicts on one image belong together, so they do not count as k images. The interval is that of Wilson for as
    many independent verdicts as would have the same variance: n if an image's verdicts are all alike, k n at most.

    Source: Kish 1965 (design effect); Wilson 1927.
    """
    k, n = verdicts.shape
    share = verdicts.double().mean(dim=0)
    p = float(share.mean())
    variance = float(share.var(correction=0))
    effective = p * (1 - p) * n / variance if variance > 0 else (n if p in (0.0, 1.0) else math.inf)
    effective = min(effective, k * n)
    return wilson_interval(p * effective, effective)
