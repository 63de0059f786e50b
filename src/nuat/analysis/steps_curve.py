"""Accuracy against the steps of PGD. Where it still falls at the last point, the attack was too short."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nuat.analysis.curves import Curve, curves
from nuat.analysis.models import NamedModel, Progress, generator, measured
from nuat.analysis.record import Measured
from nuat.attacks import PGD
from nuat.data import ImageSet
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StepsCurve(Measured):
    """Accuracy against the steps of PGD within one radius, read off one trajectory."""

    kind: ClassVar[str] = "steps-curve"

    steps: tuple[int, ...]
    """Of the points, ascending; 0 is the clean image."""
    pgd_alpha: float
    """Step of PGD, in pixels of [0, 1]."""
    models: tuple[Curve, ...]
    """In the order asked for."""


def steps_curve(
    models: list[NamedModel],
    images: ImageSet,
    steps: tuple[int, ...],
    *,
    eps: float,
    pgd_alpha: float,
    seed: int = 0,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> StepsCurve:
    """Attack ``images`` with one trajectory of PGD and look at it after each of ``steps``.

    Raises:
        InputError: no step count above 0, a negative one, or one given twice.
    """
    ordered = tuple(sorted(set(steps)))
    if len(ordered) != len(steps) or not steps or ordered[0] < 0 or ordered[-1] < 1:
        raise InputError(f"steps={','.join(map(str, steps)) or 'none'}: expected step counts >= 0 that differ.")

    def attacked(named: NamedModel, x: Tensor, y: Tensor, start: int) -> list[Tensor]:
        draws = generator(seed, start, device=named.device)
        attack = PGD(named.model, eps=eps, alpha=pgd_alpha, steps=ordered[-1], generator=draws)
        at = attack.trajectory(x, y, [count for count in ordered if count > 0])
        return [at[count] if count else x for count in ordered]

    found = curves(models, images, attacked, batch_size, progress)
    about = measured(images, models[0].device, seed=seed, eps=eps)
    return StepsCurve(**about, steps=ordered, pgd_alpha=pgd_alpha, models=found)
