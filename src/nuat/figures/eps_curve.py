"""Accuracy under PGD against eps. It must fall to 0: a model that withstands any image masks its gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from torch import Tensor

from nuat.attacks import PGD
from nuat.core.eps import eps_text
from nuat.core.threat import check_eps
from nuat.data import Dataset, ImageSet
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.accuracy_curve import AccuracyCurve, accuracy_curves, accuracy_table, check_curves, draw_curves
from nuat.figures.common_options import SampleOptions
from nuat.figures.figure_record import ModelRecord
from nuat.figures.kind import ModelFigure
from nuat.figures.measuring import NamedModel, generator, provenance
from nuat.progress import Progress, TerminalReporter, progress_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class EpsCurveOptions(SampleOptions):
    """Accuracy under PGD against eps, with 95 % intervals."""

    radii: tuple[float, ...] = ()
    """Radii of the attacks; by default multiples of eps from 0 to 4, up to 1."""
    steps: int = 20
    """Steps of PGD at each radius; the step size is 2.5 radius / steps."""


@dataclass(frozen=True, kw_only=True)
class EpsCurve(ModelRecord):
    """Accuracy against the radius. ``eps`` is the radius that the models were trained for, or that was given."""

    kind: ClassVar[str] = "eps-curve"

    radii: tuple[float, ...]
    """Radii of the points, ascending, in pixels of [0, 1]; 0 is the clean image."""
    steps: int
    """Steps of PGD at each radius. The step size is 2.5 radius / steps: it reaches every point of the ball."""
    models: tuple[AccuracyCurve, ...]
    """Curves in the order of the models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_curves(self.models, len(self.radii), self.n)


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
    """Return the accuracies of ``models`` on ``images`` under PGD at each of ``radii``.

    Raises:
        InputError: no radius, one outside [0, 1] or given twice, or a setting out of range.
    """
    ordered = tuple(sorted(set(radii)))
    if len(ordered) != len(radii) or not radii:
        raise InputError(f"radii={','.join(f'{r:g}' for r in radii) or 'none'}: expected different radii.")
    for radius in ordered:
        if radius != 0.0:
            check_eps("radii", radius)
    if steps < 1:
        raise InputError(f"steps={steps}: expected at least 1.")

    def attacked(named: NamedModel, x: Tensor, y: Tensor, start: int) -> list[Tensor]:
        return [_pgd(named, x, y, radius, start) if radius else x for radius in ordered]

    def _pgd(named: NamedModel, x: Tensor, y: Tensor, radius: float, start: int) -> Tensor:
        # equal draws at every radius: the curve bends with the radius, not with luck
        draws = generator(seed, start, device=named.device)
        alpha = min(1.0, 2.5 * radius / steps)
        return PGD(named.model, eps=radius, alpha=alpha, steps=steps, generator=draws)(x, y)

    found = accuracy_curves(models, images, attacked, batch_size, progress)
    about = provenance(images, models[0].device, seed=seed, eps=eps)
    return EpsCurve(**about, radii=ordered, steps=steps, models=found)


def _measure(
    asked: EpsCurveOptions, models: list[NamedModel], dataset: Dataset, reporter: TerminalReporter
) -> EpsCurve:
    images, eps = asked.sample(dataset), asked.threat.eps
    radii = asked.radii or tuple(factor * eps for factor in _FACTORS if factor * eps <= 1.0)
    with progress_bars(reporter) as progress:
        return eps_curve(
            models, images, radii, eps=eps, steps=asked.steps, seed=asked.seed, batch_size=asked.batch_size,
            progress=progress,
        )  # fmt: skip


def _table(record: EpsCurve) -> Table:
    in_steps = "/" in eps_text(record.eps)  # 8/255, not 0.3
    places = [eps_text(radius) if in_steps else f"{radius:.4g}" for radius in record.radii]
    return accuracy_table("radius", places, record.models)


def draw(records: Sequence[EpsCurve]) -> "Figure":
    """Draw a line for each model; the radius that it was trained for is marked."""
    models = [(record, curve) for record in records for curve in record.models]
    marks = sorted({record.eps for record in records})
    in_steps = all("/" in eps_text(eps) for eps in marks)  # 8/255, not 0.3
    unit = 255.0 if in_steps else 1.0
    figure = style.new_figure(4.2 if len(models) <= 4 else 5.6, 2.9)
    axis = figure.subplots()
    for eps in marks:
        axis.axvline(eps * unit, color=style.GREY, linewidth=0.9, linestyle="--")
        axis.text(
            eps * unit, 1.01, f"eps {eps_text(eps)}", transform=axis.get_xaxis_transform(), ha="center",
            va="bottom", fontsize=6.5, color=style.GREY,
        )  # fmt: skip
    draw_curves(axis, [([radius * unit for radius in record.radii], curve) for record, curve in models])
    axis.set_xlabel("Linf radius (1/255)" if in_steps else "Linf radius (pixels in [0, 1])")
    first = records[0]
    style.note(figure, [f"{first.n:,} test images; PGD-{first.steps} at each radius. Bands: 95 % over images."])
    return figure


FIGURE = ModelFigure(
    record=EpsCurve,
    options=EpsCurveOptions,
    summary="accuracy under PGD against eps",
    title="Accuracy against eps",
    caption=(
        "Accuracy under attacks of growing radius. Higher is better, but a curve that does not fall to 0 at large "
        "radii means that the attack fails, not that the model withstands it."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
)
