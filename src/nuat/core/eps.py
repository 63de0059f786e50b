"""Radii as people write them. Free of torch, which ``nuat recipes`` does not wait for."""

import math
import re
from typing import TYPE_CHECKING

from nuat.errors import InputError

if TYPE_CHECKING:
    from nuat.core.threat import Norm

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


EXAMPLES: "dict[Norm, str]" = {"Linf": "8/255", "L2": "0.5", "L1": "12"}
"""A usual radius of each norm."""
_LEAST: "dict[Norm, float]" = {"Linf": 0.0, "L2": 20 / 255, "L1": 1.0}
"""Radii below which a person has probably meant another norm."""
_SURELY_PIXELS = 16
"""Whole L2 radius that is taken to be meant in 1/255; usual ones are 0.5 to 5."""


def check_usual(name: str, eps: float, norm: "Norm") -> None:
    """Refuse a radius that a person gives in a norm, but that only another norm or images of 0 to 255 have."""
    if eps < _LEAST[norm]:
        elsewhere, usual = ("Linf", "0.5 (CIFAR-10) or 1.5 (MNIST)") if norm == "L2" else ("Linf or L2", "12")
        raise InputError(
            f"{name}={eps:.4g}: a usual radius in {elsewhere}, but in {norm} it hardly changes an image. Give another "
            f"norm, or an {norm} radius such as {usual}."
        )
    if norm == "L2" and eps >= _SURELY_PIXELS and eps == int(eps):
        raise InputError(
            f"{name}={eps:g}: pixels are in [0, 1], where this L2 radius is larger than most images. Did you mean "
            f"{eps:g}/255?"
        )


def parse_number(text: str) -> float:
    """Return the number in ``text``: 0.031, 1e-3, or a fraction such as 8/255.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(rf"({_NUMBER})(?:/({_NUMBER}))?", text.strip())
    divisor = float(match[2] or 1.0) if match else 0.0
    if not match or divisor == 0.0 or not math.isfinite(number := float(match[1]) / divisor):
        raise ValueError(f"{text!r} is not a number; write 0.031 or 8/255")
    return number


def eps_text(eps: float, norm: "Norm" = "Linf") -> str:
    """Return the radius of a ball as text: 0.3, or in Linf 8/255, where the multiple of 1/255 is shorter."""
    text, steps = f"{eps:g}", eps * 255
    if norm != "Linf" or abs(steps - round(steps)) >= 1e-6:
        return text
    return min(text, f"{round(steps)}/255", key=len)


def threat_text(norm: str, eps: float | None, also: str | None = None) -> str:
    """Return a ball as text, and the further ones of a union: Linf eps 8/255 and L2 0.5, L1 12."""
    own = f"{norm} eps {'not recorded' if eps is None else eps_text(eps) if norm == 'Linf' else f'{eps:g}'}"
    return own if also is None else f"{own} and {also.replace(':', ' ').replace(',', ', ')}"
