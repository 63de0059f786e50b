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

    def name_of(name: str) -> str:
        ball, plain = split(name)
        ball = ball or evaluation.norm
        return plain if name == "clean" or ball == norm else f"{ball}:{plain}"

    results = []
    for ball, one in rows:
        if one.name == "clean" or ball in asked:
            name, settings = name_of(one.name), dict(one.settings)
            if name != one.name:  # a name with a norm records its ball in the settings, and one without does not
                settings = {key: value for key, value in settings.items() if key not in ("norm", "eps")}
                settings |= {} if ball == norm else {"norm": ball, "eps": asked[ball]}
            if "after" in settings:
                settings["after"] = [name_of(earlier) for earlier in settings["after"]]
            results.append(replace(one, name=name, settings=settings))
    return replace(evaluation, results=tuple(results), norm=norm, eps=eps, also=also)


def _radii(norm: Norm, eps: float, also: str | None) -> dict[Norm, float]:
    """Return the radius of each ball."""
    return {ball.norm: ball.eps for ball in ThreatConfig(norm=norm, eps=eps, also=also).parts}
