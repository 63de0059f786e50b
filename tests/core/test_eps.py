"""Radii as people write them."""

import pytest

from nuat.core.eps import eps_text


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (1 / 255, "1/255"), (0.3, "0.3"), (0.2, "0.2"), (0.6, "0.6"), (1.0, "1"), (0.0, "0")],
)
def test_a_radius_is_a_number_or_the_shorter_multiple_of_1_255(eps: float, text: str) -> None:
    assert eps_text(eps) == text


def test_an_l2_radius_is_a_number() -> None:
    assert eps_text(8 / 255, "L2") == "0.0313725"
