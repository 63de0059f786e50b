"""Classes matched by their names."""

import pytest

from nuat.errors import InputError
from nuat.evaluation.class_order import order_by_name


def order(model: list[str], images: list[str]) -> tuple[int, ...] | None:
    return order_by_name(model, images, owner="the model", source="images.npz")


def test_names_say_the_order() -> None:
    assert order(["bee", "cat", "ant"], ["ant", "bee", "cat"]) == (2, 0, 1)
    assert order(["0", "1", "2"], ["1", "0", "2"]) == (1, 0, 2)  # as folders are sorted, say
    assert order(["ant", "bee"], ["ant", "bee"]) is None


def test_numbers_for_names_say_nothing() -> None:
    assert order(["0", "1"], ["ant", "bee"]) is None
    assert order(["ant", "bee"], ["0", "1"]) is None


def test_numbers_that_do_not_count_from_0_are_names() -> None:
    assert order(["0", "1", "2"], ["0", "2"]) == (0, 2)
    assert order(["0", "1", "2"], ["0", "1"]) is None
    assert order(["0", "2"], ["0", "1"]) is None  # the images may have no names
    with pytest.raises(
        InputError, match=r"does not have: 'zero'; it has '0', '1', '2'\. Rename them, or give --class-map"
    ):
        order(["0", "1", "2"], ["1", "2", "zero"])


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"images\.npz has classes that the model does not have: 'cat'"):
        order(["ant", "bee"], ["ant", "cat"])
