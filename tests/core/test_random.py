"""Seeds made from parts: the numbers that records rest on."""

from nuat.core.random import seed_from


def test_seeds_are_those_of_earlier_versions():
    assert (seed_from(0, 1), seed_from(1, 0)) == (4011020074, 2791857979)
    assert seed_from("view", 3, 2, 1, bits=128) == 197586942646931880326072048108734169629
