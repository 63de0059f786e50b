"""Recipes: functions without arguments that return a complete ``TrainConfig``.

A new recipe is a function in one of these modules and a line of that module's ``RECIPES``. ``nuat recipes`` prints the
first line of its docstring. ``nuat.listing`` reads these lines as text, so they keep to ``"name": function``.
"""

from collections.abc import Callable

from nuat.config import TrainConfig
from nuat.listing import check_recipe
from nuat.recipes import (
    cifar10_resnet18,
    cifar10_wrn,
    finetune,
    imagenet,
    imagenet100,
    mnist,
    mnist_cnn,
    mnist_small,
    speedrun,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    **mnist.RECIPES,
    **speedrun.RECIPES,
    **cifar10_resnet18.RECIPES,
    **cifar10_wrn.RECIPES,
    **mnist_cnn.RECIPES,
    **imagenet100.RECIPES,
    **imagenet.RECIPES,
    **mnist_small.RECIPES,
    **finetune.RECIPES,
}
"""Name on the command line to recipe."""

DEFAULT = "quickstart"


def find(name: str) -> Callable[[], TrainConfig]:
    """Return the recipe of that name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in RECIPES:
        check_recipe(name)
    return RECIPES[name]
