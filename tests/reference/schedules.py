"""Rate and momentum of each update as the authors' scripts have them, written as they write them.

Their schedule is torch's CyclicLR, called once per update: the rate runs from 0 up to the peak and down again, and the
momentum runs against it, from 0.9 down to 0.8 at the peak and up again. After the last epoch of the cycle they stop
calling it, so rate and momentum stay. From there on the rate alone is divided by 10 at given updates.
"""

import math
from collections.abc import Iterator


def cyclic(
    peak: float, up: int, down: int, end: int | None = None, drops: tuple[int, ...] = ()
) -> Iterator[tuple[float, float]]:
    """Yield rate and momentum; ``up``, ``down``, ``end`` and ``drops`` count updates."""
    update, divisor = 0, 1.0
    while True:
        at = update if end is None else min(update, end)
        height = at / up if at <= up else 1 - (at - up) / down
        if update in drops:
            divisor = 10 * divisor
        yield peak * height / divisor, 0.9 - 0.1 * height
        update += 1


def stepped(peak: float, drops: tuple[int, ...], divisor: float) -> Iterator[tuple[float, float]]:
    """Yield a rate that is divided at the updates ``drops``, and the constant momentum 0.9."""
    rate, update = peak, 0
    while True:
        if update in drops:
            rate = rate / divisor
        yield rate, 0.9
        update += 1


def one_cycle(peak: float, updates: int) -> Iterator[tuple[float, float]]:
    """Yield the rate of torch's OneCycleLR with a cosine, up for 30 % of the updates, and the constant momentum 0.9."""
    up = 0.3 * updates
    for update in range(updates):
        begin, end, share = (
            (peak / 25, peak, update / up) if update < up else (peak, peak / 1e4, (update - up) / (updates - up))
        )
        yield begin + (end - begin) * (1 - math.cos(math.pi * share)) / 2, 0.9
