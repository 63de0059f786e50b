"""Share of the images that have a property, judged as a test like the gaps of ``verdict``."""

from dataclasses import dataclass

from nuat.core.intervals import wilson_interval
from nuat.diagnostics.verdict import Status, decide, fewest


@dataclass(frozen=True)
class Share:
    """Number of images, of n, that have a property that few should have."""

    count: int
    n: int

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the value."""
        return wilson_interval(self.count, self.n)

    def judge(self, *, allowed: float, excluded: float) -> Status:
        """Return FAIL if the share is surely above ``allowed``, PASS if it is not and ``excluded`` is ruled out."""
        return decide(self.value, self.interval, allowed=allowed, excluded=excluded)

    def images_needed(self, *, allowed: float, excluded: float) -> int:
        """Return about how many images would decide at the same share, at least n."""

        def decides(n: int) -> bool:
            grown = wilson_interval(round(self.count * n / self.n), n)
            return decide(self.value, grown, allowed=allowed, excluded=excluded) is not Status.INCONCLUSIVE

        return fewest(self.n, decides)
