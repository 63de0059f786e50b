"""PGD-AT trains on PGD examples."""

from defenses.baselines_equality import NORMS, assert_equals_the_slow_one

from nuat.defenses import PGDAT


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("pgd-at", norm)


def test_the_defaults_are_those_of_their_code() -> None:
    """Steps of 2/255 at eps = 8/255."""
    assert (PGDAT().steps, PGDAT().step_size * 8) == (10, 2)
