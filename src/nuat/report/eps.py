"""How a perturbation size is written."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it would import torch, for which 'nuat recipes' does not wait
    from nuat.core.threat import Norm


def eps_text(eps: float, norm: "Norm" = "Linf") -> str:
    """Return a perturbation size as people write it: 8/255 in Linf, else 0.3."""
    steps = eps * 255
    if norm == "L2":
        return f"{eps:g}"
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{eps:g}"
