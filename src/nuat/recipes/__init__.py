"""Recipes: functions without arguments, each of which returns a complete ``TrainConfig``.

A new recipe is a function in one of these modules and a line of that module's ``RECIPES``. ``nuat recipes`` prints the
module's ``TITLE`` and the first line of each recipe's docstring. ``nuat.listing`` reads both as text, so ``TITLE`` is a
plain string and the lines keep to ``"name": function``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nuat import own_code
from nuat.config import TrainConfig
from nuat.defenses import check_own
from nuat.errors import InputError
from nuat.listing import check_recipe
from nuat.recipes import (
    cifar10_resnet18,
    cifar10_wrn,
    cifar_small,
    finetune,
    imagenet,
    imagenet100,
    liet,
    mnist,
    mnist_cnn,
    mnist_small,
    mnist_threats,
    own_images,
    robust,
    speedrun,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    **own_images.RECIPES,
    **mnist.RECIPES,
    **mnist_small.RECIPES,
    **mnist_threats.RECIPES,
    **finetune.RECIPES,
    **cifar10_resnet18.RECIPES,
    **cifar10_wrn.RECIPES,
    **cifar_small.RECIPES,
    **liet.RECIPES,
    **mnist_cnn.RECIPES,
    **imagenet100.RECIPES,
    **imagenet.RECIPES,
    **robust.RECIPES,
    **speedrun.RECIPES,
}
"""Name on the command line to recipe."""

DEFAULT = "quickstart"


def find(name: str, folder: Path = Path()) -> Callable[[], TrainConfig]:
    """Return the recipe of a name: one of ``RECIPES``, or a function of the user's own.

    Args:
        name: name in the table; ``FILE.py:FUNCTION``, which runs the file; or ``plugin:NAME``.
        folder: folder that FILE.py is relative to.

    Raises:
        InputError: there is none; the message has the nearest name. A function of the user's own raises it if it fails,
            or returns something other than a ``TrainConfig``.
    """
    if name not in RECIPES and own_code.is_named(name):
        return lambda: _own(name, folder)
    if name not in RECIPES:
        check_recipe(name)
    return RECIPES[name]


def _own(name: str, folder: Path) -> TrainConfig:
    config = own_code.call(name, folder)
    if not isinstance(config, TrainConfig):
        raise InputError(f"{name}: returned a {type(config).__name__}; expected a nuat.config.TrainConfig.")
    check_own(type(config.defense))
    return with_pinned_names(config, own_code.folder_of(name, folder))


def with_pinned_names(config: TrainConfig, folder: Path = Path()) -> TrainConfig:
    """Return settings in which the user's own network and attacks, which are run, have their pinned names.

    Args:
        config: settings that the user gave; never those of a record.
        folder: folder that FILE.py in a name is relative to.
    """
    attacks = tuple(own_code.pin(name, folder) for name in config.evaluation.attacks)
    return replace(
        config,
        model=replace(config.model, name=own_code.pin(config.model.name, folder)),
        evaluation=replace(config.evaluation, attacks=attacks),
    )
