"""Recipes: functions without arguments that return a complete ``TrainConfig``.

A new recipe is a function and a line of ``RECIPES``; its docstring's first line is what ``nuat recipes`` prints.
"""

from collections.abc import Callable

from nuat.config import TrainConfig
from nuat.errors import InputError, did_you_mean
from nuat.recipes import mnist, paper

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "quickstart": mnist.quickstart,
    "quickstart-standard": mnist.quickstart_standard,
    "nuat-mnist": mnist.nuat_mnist,
    "nuat-cifar10-resnet18": paper.nuat_cifar10_resnet18,
    "nuat-wa-cifar10-resnet18": paper.nuat_wa_cifar10_resnet18,
    "nuat-cifar10-wrn-34-10": paper.nuat_cifar10_wrn,
    "nuat-h-cifar10-wrn-34-10": paper.nuat_h_cifar10_wrn,
    "nuat-wa-cifar10-wrn-34-10": paper.nuat_wa_cifar10_wrn,
    "nuat-wa-h-cifar10-wrn-34-10": paper.nuat_wa_h_cifar10_wrn,
    "nuat2-cifar10-wrn-34-10": paper.nuat2_cifar10_wrn,
    "nuat2-wa-cifar10-wrn-34-10": paper.nuat2_wa_cifar10_wrn,
}
"""Name on the command line to recipe."""

DEFAULT = "quickstart"


def find(name: str) -> Callable[[], TrainConfig]:
    """Return the recipe of that name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise InputError(f"unknown recipe {name!r}.{did_you_mean(name, RECIPES)} 'nuat recipes' lists them all.")
