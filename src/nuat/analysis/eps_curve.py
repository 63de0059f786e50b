"""Accuracy under PGD against eps. It must fall to nothing: a model that withstands any image masks its gradients."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nuat.analysis.curves import Curve, curves
from nuat.analysis.models import NamedModel, Progress, generator, measured
from nuat.analysis.record import Measured
from nuat.attacks import PGD
from nuat.core.threat import check_eps
from nuat.data import ImageSet
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EpsCurve(Measured):
    """Accuracy against the radius; ``eps`` is the one that the models were trained for, or that was asked for."""

    kind: ClassVar[str] = "eps-curve"

    radii: tuple[float, ...]
    """Of the points, ascending, in pixels of [0, 1]; 0 is the clean image."""
    steps: int
    """Of PGD at each radius; its step is 2.5 radius / steps, so that any point of the ball can be reached."""
    models: tuple[Curve, ...]
    """In the order asked for."""


def eps_curve(
    models: list[NamedModel],
    images: ImageSet,
    radii: tuple[float, ...],
    *,
    eps: float,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> EpsCurve:
    """Attack ``images`` with PGD at each of ``radii``; see ``EpsCurve``.

    Raises:
        InputError: no radius, one outside [0, 1], or one given twice.
    """
    ordered = tuple(sorted(set(radii)))
    if len(ordered) != len(radii) or not radii:
        raise InputError(f"radii={','.join(f'{r:g}' for r in radii) or 'none'}: expected radii that differ.")
    for radius in ordered:
        if radius != 0.0:
            check_eps("radii", radius)
    if steps < 1:
        raise InputError(f"steps={steps}: expected at least 1.")

    def attacked(named: NamedModel, x: Tensor, y: Tensor, start: int) -> list[Tensor]:
        return [_pgd(named, x, y, radius, start) if radius else x for radius in ordered]

    def _pgd(named: NamedModel, x: Tensor, y: Tensor, radius: float, start: int) -> Tensor:
        # the same draws at every radius: the curve bends with the radius, not with luck
        draws = generator(seed, start, device=named.device)
        alpha = min(1.0, 2.5 * radius / steps)
        return PGD(named.model, eps=radius, alpha=alpha, steps=steps, generator=draws)(x, y)

    found = curves(models, images, attacked, batch_size, progress)
    about = measured(images, models[0].device, seed=seed, eps=eps)
    return EpsCurve(**about, radii=ordered, steps=steps, models=found)
