"""The interval of a proportion."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuat.core.intervals import wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # roots of |p - successes / n| = z sqrt(p (1 - p) / n), z = 1.959963984540054
        (0, 10, 0.0, 0.277532799862889),
        (5, 10, 0.236593090512564, 0.763406909487436),
        (10, 10, 0.722467200137111, 1.0),
        (812, 1000, 0.786606812588782, 0.835005290116231),
        (1, 1, 0.206549314377237, 1.0),
    ],
)
def test_known_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-14)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_solves_its_equation(case: tuple[int, int]) -> None:
    successes, n = case
    p = successes / n
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= p + 1e-12
    assert p - 1e-12 <= high <= 1.0
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            z = abs(p - end) / math.sqrt(end * (1 - end) / n)
            assert z == pytest.approx(1.959963984540054, rel=1e-6)
    mirrored = wilson_interval(n - successes, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)
