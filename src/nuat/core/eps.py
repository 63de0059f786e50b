"""Radii as people write them. Free of torch, which ``nuat recipes`` does not wait for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nuat.core.threat import Norm


def eps_text(eps: float, norm: "Norm" = "Linf") -> str:
    """Return the radius of a ball as text: in Linf 8/255 where it is a multiple of 1/255, else 0.3."""
    steps = eps * 255
    if norm == "L2":
        return f"{eps:g}"
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{eps:g}"
