"""Parts of an evaluation in a union of balls."""

from dataclasses import replace
from typing import TYPE_CHECKING

from nuat.attacks.catalogue import split
from nuat.config import ThreatConfig
from nuat.core.threat import Norm

if TYPE_CHECKING:
    from nuat.evaluation.results import Evaluation


def part_within(evaluation: "Evaluation", norm: Norm, eps: float, also: str | None = None) -> "Evaluation | None":
    """Return the part of an evaluation in a ball, or in a union of balls, as if it were alone.

    None: not all of these balls were attacked.
    """
    if (norm, eps, also) == (evaluation.norm, evaluation.eps, evaluation.also):
        return evaluation
    if evaluation.also is None:
        return None
    known = _radii(evaluation.norm, evaluation.eps, evaluation.also)
    asked = _radii(norm, eps, also)
    rows = [(split(one.name)[0] or evaluation.norm, one) for one in evaluation.results]
    attacked = {ball for ball, one in rows if one.name != "clean"}
    if not asked.items() <= known.items() or not asked.keys() <= attacked:
        return None
    results = []
    for ball, one in rows:
        if one.name == "clean":
            results.append(one)
        elif ball in asked:
            name = split(one.name)[1]
            results.append(replace(one, name=name if ball == norm else f"{ball}:{name}"))
    return replace(evaluation, results=tuple(results), norm=norm, eps=eps, also=also)


def _radii(norm: Norm, eps: float, also: str | None) -> dict[Norm, float]:
    """Return the radius of each ball."""
    return {ball.norm: ball.eps for ball in ThreatConfig(norm=norm, eps=eps, also=also).parts}
