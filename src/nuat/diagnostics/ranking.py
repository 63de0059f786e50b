"""Checks that compare two attacks, or two groups of attacks, on the same images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nuat.diagnostics.verdict import Gap, Status, Verdict, doubted, excluding, judge_gap

Flags = Callable[[str], Tensor]
"""Function of the name of an attack that returns whether each image withstood it, bool [n]."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A check that the attacks ``weaker`` break nothing that ``stronger`` withstands."""

    check: str
    weaker: tuple[str, ...]
    stronger: tuple[str, ...]
    together: bool = False
    """Whether to judge what ``weaker`` adds to ``stronger``, instead of one against the other."""
    allowed: float = 0.0
    """Gap in [0, 1] that is allowed."""
    matters: float = 0.01
    """Gap above the allowed one that a PASS excludes; one point is our choice."""
    asks: str
    passes: str
    fails: str
    quick: bool = False
    """Whether a quick examination judges it, too."""

    @property
    def draws_more(self) -> bool:
        """Whether ``weaker`` has more tries than ``stronger``, so that the draws of a random model alone make a gap."""
        return self.together or len(self.weaker) > len(self.stronger)

    def judge(self, flags: Flags, *, changes: float = 0.0) -> Verdict:
        """Return the verdict on attacks that have been run.

        ``changes`` is the share of images whose verdict changes from one forward pass to the next, which is 0 unless
        the model is random. A gap that the draws alone could explain is no FAIL; a PASS needs the same as before.
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
        """Return the check with the attacks that are in ``names``; None: a side has no attack left.

        ``stand_ins`` gives the replacements of attacks, which are applied first.
        """
        weaker, stronger = (
            tuple(dict.fromkeys(found for name in side if (found := stand_ins.get(name, name)) in names))
            for side in (self.weaker, self.stronger)
        )
        return replace(self, weaker=weaker, stronger=stronger) if weaker and stronger else None

    def undecided(self, because: str) -> Verdict:
        """Return the verdict if nothing could be measured."""
        threshold = excluding(self.asks, self.allowed + self.matters)
        return Verdict(check=self.check, status=Status.INCONCLUSIVE, threshold=threshold, meaning=because)


def withstood(flags: Flags, names: Sequence[str]) -> Tensor:
    """Return whether each image withstood all attacks of these names, bool [n]."""
    return torch.stack([flags(name) for name in names]).all(dim=0)
