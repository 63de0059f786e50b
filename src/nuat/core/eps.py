"""Radii as people write them. Free of torch, which ``nuat recipes`` does not wait for."""

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuat.core.threat import Norm

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


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
