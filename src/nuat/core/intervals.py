"""Intervals of proportions."""

import math

Z_95 = 1.959963984540054
"""Standard deviations from the mean within which 95 % of a normal distribution lie."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927), both ends in [0, 1]; n >= 1."""
    z = Z_95
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
