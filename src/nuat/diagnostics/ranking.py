"""A check that compares two attacks, or two groups of them, on the same images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuat.diagnostics.verdict import Gap, Status, Verdict, doubted, excluding, judge_gap

Flags = Callable[[str], Tensor]
"""Name of an attack to the images that withstood it, bool [n]."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A check that the attacks ``weaker`` break nothing that ``stronger`` withstands."""

    check: str
    weaker: tuple[str, ...]
    stronger: tuple[str, ...]
    together: bool = False
    """Judge what ``weaker`` adds to ``stronger`` rather than itself against it: nothing is set off."""
    allowed: float = 0.0
    """Gap in [0, 1] up to which nothing is wrong."""
    matters: float = 0.01
    """Size above it that a PASS excludes. Ours: one point."""
    asks: str
    passes: str
    fails: str

    @property
    def draws_more(self) -> bool:
        """Whether ``weaker`` has more chances than ``stronger``: of a random model, its draws alone then make a gap."""
        return self.together or len(self.weaker) > len(self.stronger)

    def judge(self, flags: Flags, *, changes: float = 0.0) -> Verdict:
        """Return the verdict on attacks that have been run.

        ``changes`` is the share of images whose verdict changes from one forward pass to the next, 0 but for a random
        model. Where draws alone make a gap, one that they could explain is no FAIL; what a PASS asks stays as it is.
        """
        weaker, stronger = withstood(flags, self.weaker), withstood(flags, self.stronger)
        gap = Gap.of(weaker & stronger if self.together else weaker, stronger)
        verdict = judge_gap(
            self.check,
            gap,
            allowed=self.allowed,
            matters=self.matters,
            asks=self.asks,
            passes=self.passes,
            fails=self.fails,
        )
        if changes == 0.0 or not self.draws_more:
            return verdict
        real = gap.judge(allowed=self.allowed + changes, matters=self.matters) is Status.FAIL
        because = None
        if verdict.status is Status.FAIL and not real:
            because = f"the model is random: on {changes:.1%} of the images another draw alone changes the verdict."
        return doubted(verdict, because, {"changed_by_draws": changes})

    def among(self, names: Collection[str], stand_ins: Mapping[str, str]) -> "Comparison | None":
        """Return the check with those of its attacks that are in ``names``; none where a side has none left.

        ``stand_ins`` names what takes the place of some attacks first.
        """
        weaker, stronger = (
            tuple(dict.fromkeys(found for name in side if (found := stand_ins.get(name, name)) in names))
            for side in (self.weaker, self.stronger)
        )
        return replace(self, weaker=weaker, stronger=stronger) if weaker and stronger else None

    def undecided(self, because: str) -> Verdict:
        """Return the verdict where nothing could be measured."""
        threshold = excluding(self.asks, self.allowed + self.matters)
        return Verdict(check=self.check, status=Status.INCONCLUSIVE, threshold=threshold, meaning=because)


def withstood(flags: Flags, names: Sequence[str]) -> Tensor:
    """Return which images withstood all the attacks of these names, bool [n]."""
    return torch.stack([flags(name) for name in names]).all(dim=0)
