"""FGSM-PGI starts from the perturbation of the previous batch; test_free_at.py tests how it is carried."""

from defenses.baselines_equality import NORMS, assert_equals_the_slow_one

from nuat.defenses import FGSMPGI


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("fgsm-pgi", norm)


def test_the_default_is_that_of_their_code() -> None:
    assert FGSMPGI().weight == 10.0
