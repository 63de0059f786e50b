"""Radii as people write them. Free of torch, which ``nuat recipes`` does not wait for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuat.core.threat import Norm


def eps_text(eps: float, norm: "Norm" = "Linf") -> str:
    """Return the radius of a ball as text: 0.3, or in Linf 8/255, where the multiple of 1/255 is shorter."""
    text, steps = f"{eps:g}", eps * 255
    if norm == "L2" or abs(steps - round(steps)) >= 1e-6:
        return text
    return min(text, f"{round(steps)}/255", key=len)
