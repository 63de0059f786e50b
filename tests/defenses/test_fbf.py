"""FBF takes one long step from a uniform start."""

import pytest
from defenses.baselines_equality import NORMS, assert_equals_the_slow_one

from nuat.defenses import FBF


@NORMS
@pytest.mark.parametrize("name", ["fbf", "fbf-short", "fbf-mnist"])
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    assert_equals_the_slow_one(name, norm)


def test_the_default_is_that_of_their_code() -> None:
    """A step of 10/255 at eps = 8/255."""
    assert FBF().step_size * 8 == 10
