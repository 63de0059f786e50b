"""Check that accuracy falls with eps, and to nothing.

An unbounded attack reaches 100 % success (Athalye et al. 2018).
"""

import itertools
from collections.abc import Mapping

from torch import Size, Tensor

from nuat.core.threat import Norm, largest_radius
from nuat.diagnostics.share import Share
from nuat.diagnostics.verdict import Gap, Status, Verdict, excluding, worst

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of eps to attack at, as far as they are below the radius of a ball that holds every image."""
_NEAR_ZERO, _NOT_NEAR = 0.05, 0.10
_MATTERS = 0.01


def unbounded(norm: Norm, shape: Size) -> float:
    """Return the radius of a ball around an image of ``shape`` [C, H, W] that holds every image."""
    return largest_radius(norm, shape.numel())


def judge_curve(curve: Mapping[float, Tensor]) -> Verdict:
    """Judge whether accuracy under PGD never rises with eps, and falls from the smallest radius to the largest.

    ``curve`` maps eps to whether each image withstood PGD, bool [n]. A model that withstands (almost) nothing passes.
    """
    radii = sorted(curve)
    gaps = [Gap.of(curve[small], curve[large]) for small, large in itertools.pairwise(radii)]
    rises = worst(*(gap.judge(allowed=0.0, matters=_MATTERS) for gap in gaps))
    fall = Gap.of(curve[radii[-1]], curve[radii[0]])
    falls = _falls(fall, Share(int(curve[radii[0]].sum()), fall.n))
    n = fall.n
    if rises is Status.FAIL:
        meaning = "a larger ball contains the smaller, yet PGD breaks fewer images in it: PGD is misled."
    elif falls is Status.FAIL:
        meaning = "a ball many times larger is no more dangerous: PGD stands still, or every radius is far too small."
    elif rises is Status.INCONCLUSIVE:
        meaning = f"{n} images cannot tell whether accuracy ever rises with eps; use more."
    elif falls is Status.INCONCLUSIVE:
        meaning = f"{n} images cannot tell whether accuracy falls with eps at all; use more."
    else:
        meaning = "a larger ball is always more dangerous, as it must be."
    never = excluding("at no radius is accuracy under PGD higher than at a smaller one", _MATTERS)
    return Verdict(
        check="accuracy falls with eps",
        status=worst(rises, falls),
        measured={
            "accuracy_by_eps": {f"{eps:.4g}": float(curve[eps].double().mean()) for eps in radii},
            "fall_points": round(100 * fall.value, 3),
            "fall_interval_points": [round(100 * end, 3) for end in fall.interval],
        },
        threshold=f"{never}; from the smallest to the largest it falls (PASS: no fall is excluded)",
        meaning=meaning,
        shown=" ".join(f"{float(curve[eps].double().mean()):.0%}" for eps in radii),
    )


def _falls(fall: Gap, standing: Share) -> Status:
    """Return whether accuracy falls from the smallest radius, at which ``standing`` withstand, to the largest."""
    low, high = fall.interval
    left = standing.judge(allowed=_NEAR_ZERO, excluded=_NOT_NEAR)
    if low > 0 or left is Status.PASS:
        return Status.PASS
    flat = fall.value <= 0 and high < _MATTERS
    return Status.FAIL if flat and left is Status.FAIL else Status.INCONCLUSIVE


def judge_unbounded(withstood: Tensor, eps: float = 1.0) -> Verdict:
    """Judge whether PGD breaks (almost) every image if it may return any; ``withstood`` at that ``eps``, bool [n]."""
    survivors = Share(int(withstood.sum()), len(withstood))
    status = survivors.judge(allowed=_NEAR_ZERO, excluded=_NOT_NEAR)
    if status is Status.FAIL:
        meaning = "PGD cannot break images although it may change them freely: its gradients say nothing."
    elif status is Status.PASS:
        meaning = "the attack succeeds where it may return any image, so it works."
    else:
        needed = survivors.images_needed(allowed=_NEAR_ZERO, excluded=_NOT_NEAR)
        meaning = f"{survivors.n} images cannot tell; about {needed:,} would."
    return Verdict(
        check="an unbounded attack succeeds",
        status=status,
        measured={"accuracy": survivors.value, "interval": list(survivors.interval), "n": survivors.n},
        threshold=excluding(f"accuracy under PGD at eps = {eps:.4g} is at most {_NEAR_ZERO:.0%}", _NOT_NEAR, "%"),
        meaning=meaning,
        shown=f"accuracy {survivors.value:.1%}",
    )
