"""A gap between two attacks as a test: what FAIL, PASS and INCONCLUSIVE promise."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nuat.diagnostics import Gap, Status, Verdict, judge_gap
from nuat.diagnostics.share import Share
from nuat.diagnostics.verdict import excluding, fewest, in_parts, worst
from nuat.evaluation.comparison import paired_interval

SHARES = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400)).map(
    lambda drawn: Gap(drawn[0], drawn[1], max(1, sum(drawn)))
)
LIMITS = st.tuples(st.sampled_from([0.0, 0.001, 0.01, 0.1]), st.sampled_from([0.01, 0.05]))


def judged(gap: Gap, allowed: float = 0.0, matters: float = 0.01) -> Verdict:
    return judge_gap("c", gap, allowed=allowed, matters=matters, asks="a", passes="fine", fails="bad")


def test_a_gap_counts_what_one_attack_alone_breaks() -> None:
    weaker = torch.tensor([True, False, False, True, False])
    stronger = torch.tensor([True, True, True, False, False])
    gap = Gap.of(weaker, stronger)
    assert gap == Gap(weaker_only=2, stronger_only=1, n=5)
    assert gap.value == pytest.approx(float(stronger.double().mean() - weaker.double().mean()))
    assert gap.interval == paired_interval(2, 1, 5)


@pytest.mark.parametrize(
    ("gap", "status"),
    [
        (Gap(0, 0, 1000), Status.PASS),
        (Gap(0, 0, 100), Status.INCONCLUSIVE),  # so few images exclude no gap of one point
        (Gap(1, 0, 1), Status.INCONCLUSIVE),
        (Gap(2, 0, 300), Status.INCONCLUSIVE),  # two images may be chance
        (Gap(30, 0, 300), Status.FAIL),
        (Gap(30, 30, 300), Status.INCONCLUSIVE),  # as many the other way
        (Gap(0, 30, 300), Status.PASS),
        (Gap(1, 0, 1000), Status.INCONCLUSIVE),  # chance, but none is allowed
        (Gap(8, 4, 1000), Status.INCONCLUSIVE),  # under half a point: neither shown nor excluded
        (Gap(5, 0, 1000), Status.FAIL),  # five to none are no chance
    ],
)
def test_verdicts_on_a_gap(gap: Gap, status: Status) -> None:
    assert gap.judge(allowed=0.0, matters=0.01) is status


def test_what_is_allowed_moves_the_verdict() -> None:
    gap = Gap(50, 0, 1000)
    assert gap.judge(allowed=0.0, matters=0.01) is Status.FAIL
    assert gap.judge(allowed=0.05, matters=0.01) is Status.INCONCLUSIVE
    assert gap.judge(allowed=0.05, matters=0.05) is Status.PASS
    assert gap.judge(allowed=0.1, matters=0.01) is Status.PASS


def test_a_gap_above_what_is_allowed_is_no_pass_however_narrow_its_interval() -> None:
    """Five of 1,000 images that Square alone breaks, half a point where a tenth is allowed."""
    gap = Gap(5, 0, 1000)
    assert gap.interval[1] < 0.011
    verdict = judged(gap, 0.001, 0.01)
    assert verdict.status is not Status.PASS
    needed = gap.images_needed(allowed=0.001, matters=0.01)
    by = -(-needed // gap.n)
    assert Gap(5 * by, 0, gap.n * by).judge(allowed=0.001, matters=0.01) is Status.FAIL  # more images never pass it
    assert Gap(1, 0, 1000).judge(allowed=0.001, matters=0.01) is Status.PASS


def test_a_threshold_says_what_a_pass_excludes() -> None:
    assert judged(Gap(0, 0, 10), 0.001).threshold == "a (PASS: more than 1.1 points is excluded)"
    assert judged(Gap(0, 0, 10), 0.1, 0.05).threshold == "a (PASS: more than 15 points is excluded)"
    assert excluding("b", 0.1, "%") == "b (PASS: more than 10% is excluded)"


def test_the_worst_of_several_verdicts() -> None:
    assert worst(Status.PASS, Status.FAIL, Status.INCONCLUSIVE) is Status.FAIL
    assert worst(Status.PASS, Status.INCONCLUSIVE) is Status.INCONCLUSIVE
    assert worst(Status.PASS) is Status.PASS


@pytest.mark.parametrize(
    ("share", "status"),
    [
        (Share(0, 300), Status.PASS),
        (Share(15, 300), Status.PASS),  # what is allowed
        (Share(16, 300), Status.INCONCLUSIVE),  # a little more, though 10 % is excluded
        (Share(0, 20), Status.INCONCLUSIVE),
        (Share(40, 300), Status.FAIL),
    ],
)
def test_verdicts_on_a_share(share: Share, status: Status) -> None:
    assert share.judge(allowed=0.05, excluded=0.1) is status
    by = -(-share.images_needed(allowed=0.05, excluded=0.1) // share.n)
    grown = Share(share.count * by, share.n * by).judge(allowed=0.05, excluded=0.1)
    assert grown is (Status.PASS if share.value <= 0.05 else Status.FAIL)


@given(SHARES, LIMITS)
def test_fail_is_shown_and_pass_excludes_what_matters(gap: Gap, limits: tuple[float, float]) -> None:
    allowed, matters = limits
    low, high = gap.interval
    assert -1.0 <= low <= high <= 1.0
    status = gap.judge(allowed=allowed, matters=matters)
    if status is Status.FAIL:
        assert gap.value > allowed
        assert low > allowed
    elif status is Status.PASS:
        assert gap.value <= allowed
        assert high < allowed + matters
    else:
        assert low <= allowed
        assert gap.value > allowed or high >= allowed + matters


@given(SHARES, LIMITS, st.integers(2, 50))
def test_more_images_of_the_same_shares_never_undo_a_decision(gap: Gap, limits: tuple[float, float], by: int) -> None:
    allowed, matters = limits
    grown = Gap(gap.weaker_only * by, gap.stronger_only * by, gap.n * by)
    assert grown.interval[1] - grown.interval[0] < gap.interval[1] - gap.interval[0]
    before, after = (g.judge(allowed=allowed, matters=matters) for g in (gap, grown))
    if before is not Status.INCONCLUSIVE:
        assert after is before


@given(SHARES, LIMITS)
def test_a_further_image_on_one_side_never_turns_the_verdict_the_other_way(
    gap: Gap, limits: tuple[float, float]
) -> None:
    order = [Status.PASS, Status.INCONCLUSIVE, Status.FAIL]
    allowed, matters = limits
    if gap.n - gap.weaker_only - gap.stronger_only > 0:
        worse = Gap(gap.weaker_only + 1, gap.stronger_only, gap.n)
        assert worse.value > gap.value
        if gap.judge(allowed=allowed, matters=matters) is Status.FAIL:
            assert worse.judge(allowed=allowed, matters=matters) is Status.FAIL
        assert order.index(worse.judge(allowed=allowed, matters=matters)) >= order.index(
            gap.judge(allowed=allowed, matters=matters)
        )


@given(SHARES, LIMITS)
def test_the_number_of_images_asked_for_really_decides(gap: Gap, limits: tuple[float, float]) -> None:
    allowed, matters = limits
    verdict = judged(gap, allowed, matters)
    needed = gap.images_needed(allowed=allowed, matters=matters)
    if verdict.status is not Status.INCONCLUSIVE:
        assert needed == gap.n
        return
    assert verdict.meaning.startswith(f"{gap.n} images cannot tell; about {needed:,} would")
    assert gap.n < needed < 10**15
    by = -(-needed // gap.n)  # whole images of the same shares
    grown = Gap(gap.weaker_only * by, gap.stronger_only * by, gap.n * by).judge(allowed=allowed, matters=matters)
    assert grown is (Status.PASS if gap.value <= allowed else Status.FAIL)


def test_the_number_is_not_far_from_the_fewest() -> None:
    decides = [n for n in range(1, 400) if Gap(0, 0, n).judge(allowed=0.0, matters=0.01) is Status.PASS]
    assert decides == list(range(decides[0], 400))
    assert decides[0] <= Gap(0, 0, 20).images_needed(allowed=0.0, matters=0.01) <= 1.25 * decides[0] + 1
    assert fewest(7, lambda n: n >= 7) == 7


def test_a_verdict_says_what_was_measured() -> None:
    verdict = judged(Gap(30, 6, 300))
    assert (verdict.check, verdict.status, verdict.meaning) == ("c", Status.FAIL, "bad")
    assert judged(Gap(0, 0, 1000)).meaning == "fine"
    values = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    low, high = paired_interval(30, 6, 300)
    assert values == {
        "check": "c",
        "status": "FAIL",
        "measured": {
            "gap_points": 8.0,
            "interval_points": [round(100 * low, 3), round(100 * high, 3)],
            "only_weaker_breaks": 30,
            "only_stronger_breaks": 6,
            "n": 300,
        },
        "threshold": "a (PASS: more than 1 points is excluded)",
        "meaning": "bad",
    }
    assert re.search(r"about [\d,]+ would", judged(Gap(0, 0, 10)).meaning)


@pytest.mark.parametrize("n", [1, 2, 249, 250, 251, 501, 1000])
def test_parts_hold_all_images_in_order_and_none_is_tiny(n: int) -> None:
    parts = list(in_parts(torch.arange(n), torch.arange(n) + 1))
    assert torch.cat([a for a, _ in parts]).tolist() == list(range(n))
    assert all(torch.equal(a + 1, b) for a, b in parts)
    assert max(len(a) for a, _ in parts) <= 250
    assert n < 250 or min(len(a) for a, _ in parts) >= 100  # batch norm in training mode needs several
