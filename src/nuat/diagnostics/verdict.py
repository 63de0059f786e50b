"""Verdicts: the measurement, the threshold, and what to believe.

A gap between two attacks is judged as a test, not as a bare difference. FAIL: the whole 95 % interval lies above the
allowed gap. PASS: the gap is allowed, and the interval ends below a gap that matters. Anything between is
INCONCLUSIVE, with the number of images that would decide it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from torch import Tensor

from nuat.evaluation.comparison import paired_interval

_AT_ONCE = 250
"""Images of a forward pass."""


class Status(StrEnum):
    """Outcome of a check."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of one check, with its grounds."""

    check: str
    """Name of the check."""
    status: Status
    """Outcome."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Measurements, as JSON values."""
    threshold: str
    """Threshold, in words with its number."""
    meaning: str
    """One sentence on what to believe."""
    shown: str = ""
    """Main measurement in a few words, for a line on the terminal."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "check": self.check,
            "status": self.status.value,
            "measured": dict(self.measured),
            "threshold": self.threshold,
            "meaning": self.meaning,
        }


@dataclass(frozen=True)
class Gap:
    """Numbers of images that only one of two attacks breaks, the first of which should be the weaker."""

    weaker_only: int
    """Images that only the supposedly weaker attack breaks."""
    stronger_only: int
    """Images that only the other attack breaks."""
    n: int
    """Images in all."""

    @classmethod
    def of(cls, weaker: Tensor, stronger: Tensor) -> "Gap":
        """Return the gap between two attacks, given whether each image withstood them, bool [n]."""
        return cls(int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum()), len(weaker))

    @property
    def value(self) -> float:
        """Accuracy under the stronger attack minus accuracy under the weaker one: above 0 if something is wrong."""
        return (self.weaker_only - self.stronger_only) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value."""
        return paired_interval(self.weaker_only, self.stronger_only, self.n)

    def judge(self, *, allowed: float, matters: float) -> Status:
        """Return FAIL if the gap is surely above ``allowed``, PASS if not and ``allowed + matters`` is excluded."""
        return decide(self.value, self.interval, allowed=allowed, excluded=allowed + matters)

    def images_needed(self, *, allowed: float, matters: float) -> int:
        """Return how many images would decide at the same shares, at least n.

        There always is such a number: an allowed gap ends as PASS, any larger one as FAIL.
        """

        def decides(n: int) -> bool:
            scale = n / self.n  # whole images would move a gap that is close to what is allowed to its other side
            grown = paired_interval(self.weaker_only * scale, self.stronger_only * scale, n)
            return decide(self.value, grown, allowed=allowed, excluded=allowed + matters) is not Status.INCONCLUSIVE

        return fewest(self.n, decides)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:+.1f} pt [{100 * low:+.1f}, {100 * high:+.1f}]"

    def measured(self) -> dict[str, Any]:
        """Return the gap as JSON values, in points."""
        low, high = self.interval
        return {
            "gap_points": round(100 * self.value, 3),
            "interval_points": [round(100 * low, 3), round(100 * high, 3)],
            "only_weaker_breaks": self.weaker_only,
            "only_stronger_breaks": self.stronger_only,
            "n": self.n,
        }


def decide(value: float, interval: tuple[float, float], *, allowed: float, excluded: float) -> Status:
    """Return FAIL if ``interval`` is above ``allowed``; PASS if ``value`` is not, and it ends below ``excluded``."""
    low, high = interval
    if low > allowed:
        return Status.FAIL
    return Status.PASS if value <= allowed and high < excluded else Status.INCONCLUSIVE


def worst(*statuses: Status) -> Status:
    """Return the worst of the outcomes: FAIL, then INCONCLUSIVE, then PASS."""
    return next((status for status in (Status.FAIL, Status.INCONCLUSIVE) if status in statuses), Status.PASS)


def excluding(asks: str, excluded: float, unit: str = " points") -> str:
    """Return the threshold ``asks`` in words, with what a PASS excludes; ``excluded`` in [0, 1]."""
    return f"{asks} (PASS: more than {100 * excluded:g}{unit} is excluded)"


def doubted(verdict: Verdict, because: str | None, grounds: Mapping[str, Any]) -> Verdict:
    """Return ``verdict`` with more measurements; with a reason, it becomes INCONCLUSIVE."""
    grown = replace(verdict, measured={**verdict.measured, **grounds})
    return grown if because is None else replace(grown, status=Status.INCONCLUSIVE, meaning=because)


def fewest(n: int, decides: Callable[[int], bool]) -> int:
    """Return a number of images from ``n`` on that decides, at most a quarter above the fewest."""
    while n < 10**18 and not decides(n):
        n = n * 5 // 4 + 1
    return n


def in_parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of n images each in equal parts that fit into memory."""
    parts = -(-len(tensors[0]) // _AT_ONCE)
    return zip(*(tensor.chunk(parts) for tensor in tensors), strict=True)


def judge_gap(check: str, gap: Gap, *, allowed: float, matters: float, asks: str, passes: str, fails: str) -> Verdict:
    """Return the verdict on a gap.

    Args:
        check: name of the check.
        gap: measured gap.
        allowed: gap in [0, 1] that is allowed.
        matters: gap above the allowed one that a PASS must exclude.
        asks: threshold in words.
        passes: meaning of a PASS.
        fails: meaning of a FAIL.
    """
    status = gap.judge(allowed=allowed, matters=matters)
    if status is Status.INCONCLUSIVE:
        needed = gap.images_needed(allowed=allowed, matters=matters)
        meaning = f"{gap.n} images cannot tell; about {needed:,} would, at the same shares."
    else:
        meaning = passes if status is Status.PASS else fails
    threshold = excluding(asks, allowed + matters)
    return Verdict(
        check=check, status=status, measured=gap.measured(), threshold=threshold, meaning=meaning, shown=str(gap)
    )
