"""R-MGM draws the logits of two single-step examples together."""

from defenses.baselines_equality import NORMS, assert_equals_the_slow_one


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("r-mgm", norm)
