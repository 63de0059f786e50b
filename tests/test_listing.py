"""The recipes as read from their source are those that Python sees."""

import pytest

from nuat.errors import InputError
from nuat.listing import check_recipe, groups, summaries
from nuat.recipes import RECIPES


def test_the_listing_is_that_of_the_recipes() -> None:
    assert list(summaries().items()) == [
        (name, (recipe.__doc__ or "").strip().splitlines()[0]) for name, recipe in RECIPES.items()
    ]


def test_recipes_for_own_images_come_first_under_headings() -> None:
    found = groups()
    assert next(iter(found)) == "Your own images"
    assert next(iter(found["Your own images"])) == "finetune-folder"
    assert list(found)[-1] == "Speed"
    assert all(found.values())


def test_only_names_of_recipes_pass() -> None:
    for name in RECIPES:
        check_recipe(name)
    with pytest.raises(InputError, match=r"unknown recipe 'quickstrt'. Did you mean 'quickstart'\?"):
        check_recipe("quickstrt")
