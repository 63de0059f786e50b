"""Seeds made from parts: the numbers that records rest on."""

import pytest
import torch

from nuat.core.random import Rows, normal, seed_from


def test_seeds_are_those_of_earlier_versions():
    assert (seed_from(0, 1), seed_from(1, 0)) == (4011020074, 2791857979)
    assert seed_from("view", 3, 2, 1, bits=128) == 197586942646931880326072048108734169629


def test_other_images_than_the_rows_of_a_process_are_our_own_fault():
    rows = Rows(torch.Generator().manual_seed(3), 1, 2, 5)  # images 1 and 3 of five
    assert normal((2, 4), rows, torch.zeros(())).shape == (2, 4)
    with pytest.raises(AssertionError, match="3 images are not the rows"):
        normal((3, 4), rows, torch.zeros(()))
