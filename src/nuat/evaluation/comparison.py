"""Compare two models on the same images, attack by attack, with a paired test.

Images that both models withstand, or neither, say nothing about the difference; the test rests on the others. The
intervals of two accuracies may overlap although the models differ, because they ignore the pairing.
"""

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.core.eps import threat_text
from nuat.core.intervals import Z_95
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.results import Evaluation

LEVEL = 0.05
"""Probability of calling equal models different, at most."""


_NUMBERED = re.compile(r"-\d+$")
"""End of the name of an attack that says its steps."""


@dataclass(frozen=True)
class Difference:
    """Two models under one attack on the same n images."""

    attack: str
    """Name of the attack, or worst-case; or name of a corruption or of several together."""
    n: int
    accuracy_a: float
    """In [0, 1], as are the others."""
    accuracy_b: float
    only_a: int
    """Images that A alone withstands; of several verdicts on an image, that A withstands more often."""
    only_b: int
    """The same of B."""
    p_value: float
    """How likely a difference at least this large is between models of equal accuracy: exact McNemar test; of several
    verdicts on an image, a paired z-test."""
    interval: tuple[float, float]
    """95 % interval of accuracy A - accuracy B."""

    @property
    def is_real(self) -> bool:
        """Whether the images tell the models apart at the 5 % level."""
        return self.p_value < LEVEL


def compare(a: Evaluation, b: Evaluation) -> tuple[Difference, ...]:
    """Return the differences under every attack that both evaluations have, and in the worst case if all are shared.

    Raises:
        InputError: other images, another eps, an attack with other settings, or no attack in common.
    """
    if a.n != b.n or not torch.equal(a.indices, b.indices) or (a.images and b.images and a.images != b.images):
        raise InputError("the two evaluations are of different images, so they cannot be compared image by image.")
    if (a.norm, a.eps, a.also) != (b.norm, b.eps, b.also):
        balls = " and ".join(threat_text(one.norm, one.eps, one.also) for one in (a, b))
        raise InputError(f"the two evaluations are within different balls, {balls}.")
    theirs = {result.name: result for result in b.results}
    for result in a.results:
        if result.name in theirs and settings_key(a, [result.name]) != settings_key(b, [result.name]):
            raise InputError(
                f"{result.name} ran with other settings, {result.settings} and {theirs[result.name].settings}; attack "
                "both models alike."
            )
    shared = [
        (result.name, result.correct, theirs[result.name].correct) for result in a.results if result.name in theirs
    ]
    if not shared:
        names = [", ".join(result.name for result in evaluation.results) for evaluation in (a, b)]
        raise InputError(f"no attack in common: {names[0]} against {names[1]}.")
    if len(shared) == len(a.results) == len(b.results) > 1:
        shared.append(("worst-case", a.worst_case, b.worst_case))
    return tuple(_difference(*entry) for entry in shared)


def settings_key(evaluation: Evaluation, names: Collection[str]) -> str:
    """Return a text that is the same for evaluations in which the attacks ``names`` ran with the same settings."""
    # pgd-20 is the same attack by itself and read off the trajectory of pgd-100, whose steps are then recorded
    settings = {
        result.name: {
            key: v for key, v in result.settings.items() if key != "steps" or not _NUMBERED.search(result.name)
        }
        for result in evaluation.results
        if result.name in names
    }
    # 1 and 1.0 are the same step
    return json.dumps(json.loads(json.dumps(settings), parse_int=float), sort_keys=True)


def compare_corruptions(a: CorruptionResults, b: CorruptionResults) -> tuple[Difference, ...]:
    """Return the differences without corruption, under each corruption, and in the mean of all.

    The accuracy under a corruption is over its five severities, and the mean over all corruptions, so each image has
    several verdicts, which belong together: the interval and the test are over images.

    Raises:
        InputError: other images, or images that were corrupted in another way.
    """
    if a.n != b.n or not torch.equal(a.indices, b.indices) or a.images != b.images:
        raise InputError("the two results are of different images, so they cannot be compared image by image.")
    ways = [f"{len(found.correct)} corruptions, {found.source}, seed {found.seed}" for found in (a, b)]
    if ways[0] != ways[1] or a.missing != b.missing:
        raise InputError(
            f"the images were corrupted in different ways ({'; '.join(ways)}); evaluate both models alike."
        )
    clean = _difference("clean", a.clean, b.clean)
    found = [_mean_difference(name, a.verdicts(name), b.verdicts(name)) for name in a.correct]
    return clean, *found, _mean_difference(a.mean_name, a.verdicts(), b.verdicts())


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of the exact McNemar test: a fair coin thrown ``only_a + only_b`` times.

    Source: McNemar 1947, with the binomial distribution in place of its normal approximation.
    """
    throws = only_a + only_b
    tail = sum(math.comb(throws, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**throws))  # of integers, so that no power overflows


def paired_interval(only_a: float, only_b: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two paired proportions, within [-1, 1].

    The counts may be fractions, of images that are yet to be had.

    Source: Agresti and Min 2005, the Wald interval after adding 1/2 to each of the four cells.
    """
    b, c, total = only_a + 0.5, only_b + 0.5, n + 2.0
    centre = (b - c) / total
    spread = Z_95 * math.sqrt((b + c) - (b - c) ** 2 / total) / total
    return max(-1.0, centre - spread), min(1.0, centre + spread)


def _difference(attack: str, a: Tensor, b: Tensor) -> Difference:
    only_a, only_b, n = int((a & ~b).sum()), int((b & ~a).sum()), len(a)
    return Difference(
        attack=attack,
        n=n,
        accuracy_a=float(a.double().mean()),
        accuracy_b=float(b.double().mean()),
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
        interval=paired_interval(only_a, only_b, n),
    )


def _mean_difference(name: str, a: Tensor, b: Tensor) -> Difference:
    """Return the difference of the means of two bool [k, n], k verdicts of each model on each of n images.

    Source: as ``paired_interval``, which it equals for k = 1, with the squares of the images' differences in place of
    their number.
    """
    each = (a.double() - b.double()).mean(dim=0)
    total = len(each) + 2.0
    centre = float(each.sum()) / total
    spread = math.sqrt(float(each.square().sum()) + 1 - total * centre**2) / total
    return Difference(
        attack=name,
        n=len(each),
        accuracy_a=float(a.double().mean()),
        accuracy_b=float(b.double().mean()),
        only_a=int((each > 0).sum()),
        only_b=int((each < 0).sum()),
        p_value=math.erfc(abs(centre) / spread / math.sqrt(2)),
        interval=(max(-1.0, centre - Z_95 * spread), min(1.0, centre + Z_95 * spread)),
    )
