"""N-FGSM takes one step from a noisy image and is not clipped to the ball."""

import pytest
from defenses.baselines_equality import EPS, NORMS, assert_equals_the_slow_one, both, make_epochs

from nuat.defenses import NFGSM


@NORMS
@pytest.mark.parametrize("name", ["n-fgsm", "n-fgsm-less"])
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    assert_equals_the_slow_one(name, norm)


def test_it_leaves_the_ball() -> None:
    fast, _ = both("n-fgsm")
    x = make_epochs()[0][0][0]
    reach = float((fast.trained[0][0] - x).abs().max())
    assert 2 * EPS < reach <= 3 * EPS + 1e-12


def test_the_default_is_that_of_their_code() -> None:
    assert NFGSM().noise == 2.0
