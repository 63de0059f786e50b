"""Does accuracy fall with eps, and to nothing? (Athalye et al. 2018: an unbounded attack reaches 100 % success.)"""

import itertools
import math
from collections.abc import Mapping

from torch import Size, Tensor

from nuat.diagnostics.verdict import Gap, Status, Verdict, fewest
from nuat.results import wilson_interval
from nuat.threat import Norm

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of eps that are attacked, as far as they are below the radius that holds every image."""
_NEAR_ZERO = 0.05


def unbounded(norm: Norm, shape: Size) -> float:
    """Return the radius of a ball around any image of ``shape`` [C, H, W] that holds every other: 1, or sqrt(C H W)."""
    return 1.0 if norm == "Linf" else math.sqrt(shape.numel())


def judge_curve(curve: Mapping[float, Tensor]) -> Verdict:
    """Return whether accuracy under PGD falls from each radius to the next; ``curve``: eps to withstood, bool [n]."""
    radii = sorted(curve)
    gaps = [Gap.of(curve[small], curve[large]) for small, large in itertools.pairwise(radii)]
    states = [gap.judge(allowed=0.0, matters=0.01) for gap in gaps]
    status = next((s for s in (Status.FAIL, Status.INCONCLUSIVE) if s in states), Status.PASS)
    meanings = {
        Status.PASS: "a larger ball is always more dangerous, as it must be.",
        Status.FAIL: "a larger ball contains the smaller, yet PGD breaks fewer images in it: PGD is misled.",
        Status.INCONCLUSIVE: f"{gaps[0].n} images cannot tell whether accuracy ever rises with eps; use more.",
    }
    return Verdict(
        check="accuracy falls with eps",
        status=status,
        measured={"accuracy_by_eps": {f"{eps:.4g}": float(curve[eps].double().mean()) for eps in radii}},
        threshold="at no radius is accuracy under PGD higher than at a smaller one",
        meaning=meanings[status],
    )


def judge_unbounded(withstood: Tensor, eps: float = 1.0) -> Verdict:
    """Return whether PGD with every image allowed breaks (almost) all; ``withstood`` at that ``eps``, bool [n]."""
    n, survivors = len(withstood), int(withstood.sum())
    status = _near_zero(survivors, n)
    low, high = wilson_interval(survivors, n)
    if status is Status.FAIL:
        meaning = "PGD cannot break images although it may change them at will: it is blind."
    elif status is Status.PASS:
        meaning = "with every image allowed the attack succeeds, so it works."
    else:
        needed = fewest(n, lambda m: _near_zero(round(survivors * m / n), m) is not Status.INCONCLUSIVE)
        meaning = f"{n} images cannot tell; about {needed:,} would."
    return Verdict(
        check="an unbounded attack succeeds",
        status=status,
        measured={"accuracy": survivors / n, "interval": [low, high], "n": n},
        threshold=f"accuracy under PGD at eps = {eps:.4g} is at most {_NEAR_ZERO:.0%}",
        meaning=meaning,
    )


def _near_zero(survivors: int, n: int) -> Status:
    low, high = wilson_interval(survivors, n)
    if low > _NEAR_ZERO:
        return Status.FAIL
    return Status.PASS if high < 2 * _NEAR_ZERO else Status.INCONCLUSIVE
