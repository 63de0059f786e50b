"""Line-ups of AutoAttack: the attacks of each version, and the models and images that they are not defined for."""

from typing import Literal

from nuat.core.threat import Norm
from nuat.errors import InputError

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
FAST = STANDARD[:2]
"""Without FAB and Square, which cost the most and seldom break another image: an upper bound of the accuracy."""
Version = Literal["standard", "v1", "fast"]
V1 = ("apgd-ce", "apgd-dlr", "fab", "square")
NAMES = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
_FEWEST = {"apgd-dlr": 3, "apgd-t": 4}
"""Classes that the difference-of-logits ratio needs, untargeted and targeted; the other attacks need 2."""


def of_version(version: Version, classes: int) -> tuple[str, ...]:
    """Return the attacks of a version, in their order, for a model of that many classes.

    DLR needs three classes and targeted DLR four; with fewer classes another line-up replaces them.
    """
    if classes < 4:
        fast = ("apgd-ce", "apgd-dlr") if classes == 3 else ("apgd-ce",)
        return fast if version == "fast" else (*fast, "fab-t", "square")
    return {"standard": STANDARD, "v1": V1, "fast": FAST}[version]


def check_names(attacks: tuple[str, ...]) -> None:
    """Refuse a line-up that is empty, repeats an attack, has an unknown one, or an order that weakens one."""
    if not attacks or len(set(attacks)) < len(attacks) or not set(attacks) <= set(NAMES):
        raise InputError(f"attacks={attacks!r}: expected one or more of {', '.join(NAMES)}, each once.")
    if {"fab", "fab-t"} <= set(attacks) and attacks.index("fab") > attacks.index("fab-t"):
        raise InputError("attacks: put fab before fab-t; after it the package gives fab one restart instead of five.")


def check_classes(attacks: tuple[str, ...], classes: int) -> None:
    """Refuse attacks that are not defined for a model of so few classes."""
    for name in attacks:
        if classes < _FEWEST.get(name, 2):
            raise InputError(f"{name} needs at least {_FEWEST.get(name, 2)} classes; the model has {classes}.")


def check_square(norm: Norm, height: int, width: int) -> None:
    """Refuse image sizes that Square in L2 and L1 cannot handle: its tiles, a fifth of the height, exceed the image."""
    tile = height // 5
    margin = (height - 5 * tile) // 2
    if norm != "Linf" and (
        tile == 0 or (tile > 1 and any(margin + side // tile * tile > side for side in (height, width)))
    ):
        raise InputError(
            f"square in {norm} cannot tile images of {height} x {width} in the AutoAttack package; leave it out, with "
            "attacks=('apgd-ce', 'apgd-t', 'fab-t')."
        )
