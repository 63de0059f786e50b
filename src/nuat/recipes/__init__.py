"""Recipes: functions without arguments, each of which returns a complete ``TrainConfig``.

A new recipe is a function in one of these modules and a line of that module's ``RECIPES``. ``nuat recipes`` prints the
module's ``TITLE`` and the first line of each recipe's docstring. ``nuat.listing`` reads both as text, so ``TITLE`` is a
plain string and the lines keep to ``"name": function``.
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
    own_images,
    speedrun,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    **own_images.RECIPES,
    **mnist.RECIPES,
    **mnist_small.RECIPES,
    **finetune.RECIPES,
    **cifar10_resnet18.RECIPES,
    **cifar10_wrn.RECIPES,
    **mnist_cnn.RECIPES,
    **imagenet100.RECIPES,
    **imagenet.RECIPES,
    **speedrun.RECIPES,
}
"""Name on the command line to recipe."""

DEFAULT = "quickstart"


def find(name: str) -> Callable[[], TrainConfig]:
    """Return the recipe of that name.

    Raises:
        InputError: there is none; the message has the nearest name.
    """
    if name not in RECIPES:
        check_recipe(name)
    return RECIPES[name]
