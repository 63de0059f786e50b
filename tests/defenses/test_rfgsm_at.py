"""R-FGSM-AT trains on R-FGSM examples."""

from defenses.baselines_equality import NORMS, assert_equals_the_slow_one


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("rfgsm-at", norm)
