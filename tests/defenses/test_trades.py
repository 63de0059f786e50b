"""TRADES maximises and penalises a divergence."""

from defenses.baselines_equality import EPS, NORMS, assert_equals_the_slow_one, both, make_epochs

from nuat.defenses import TRADES


@NORMS
def test_equals_the_slow_one(norm: bool) -> None:
    assert_equals_the_slow_one("trades", norm)


def test_it_starts_near_the_image_and_stays_in_the_ball() -> None:
    fast, _ = both("trades")
    for (x, _), ascents in zip([batch for epoch in make_epochs() for batch in epoch], fast.ascents, strict=True):
        assert len(ascents) == 3
        assert 0 < float((ascents[0] - x).abs().max()) < 0.006
        assert float((ascents[2] - x).abs().max()) <= 0.8 * EPS + 0.006


def test_the_defaults_are_those_of_their_code() -> None:
    """Steps of 2/255 at eps = 8/255."""
    assert (TRADES().beta, TRADES().steps, TRADES().step_size * 8) == (6.0, 10, 2)
