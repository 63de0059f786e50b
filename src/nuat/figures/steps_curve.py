"""Accuracy against the steps of PGD. If it still falls at the last point, the attack is too short."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from torch import Tensor

from nuat.attacks import PGD
from nuat.core.eps import eps_text
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


@dataclass(frozen=True, kw_only=True)
class StepsCurveOptions(SampleOptions):
    """Accuracy against the steps of PGD, read off one trajectory, with 95 % intervals."""

    steps: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100)
    """Numbers of steps at which the trajectory is read; 0 is the clean image."""


@dataclass(frozen=True, kw_only=True)
class StepsCurve(ModelRecord):
    """Accuracy against the steps of PGD within one radius, read off one trajectory."""

    kind: ClassVar[str] = "steps-curve"

    steps: tuple[int, ...]
    """Numbers of steps of the points, ascending; 0 is the clean image."""
    pgd_alpha: float
    """Step size of PGD, in pixels of [0, 1]."""
    models: tuple[AccuracyCurve, ...]
    """Curves in the order of the models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_curves(self.models, len(self.steps), self.n)


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
    """Return the accuracies of ``models`` on ``images`` along one trajectory of PGD, after each of ``steps``.

    Raises:
        InputError: no number of steps above 0, a negative one, or one given twice.
    """
    ordered = tuple(sorted(set(steps)))
    if len(ordered) != len(steps) or not steps or ordered[0] < 0 or ordered[-1] < 1:
        raise InputError(f"steps={','.join(map(str, steps)) or 'none'}: expected different numbers >= 0, one above 0.")

    def attacked(named: NamedModel, x: Tensor, y: Tensor, start: int) -> list[Tensor]:
        draws = generator(seed, start, device=named.device)
        attack = PGD(named.model, eps=eps, alpha=pgd_alpha, steps=ordered[-1], generator=draws)
        at = attack.trajectory(x, y, [count for count in ordered if count > 0])
        return [at[count] if count else x for count in ordered]

    found = accuracy_curves(models, images, attacked, batch_size, progress)
    about = provenance(images, models[0].device, seed=seed, eps=eps)
    return StepsCurve(**about, steps=ordered, pgd_alpha=pgd_alpha, models=found)


def _measure(
    asked: StepsCurveOptions, models: list[NamedModel], dataset: Dataset, reporter: TerminalReporter
) -> StepsCurve:
    images = asked.sample(dataset)
    eps, alpha, most = asked.threat.eps, asked.threat.pgd_alpha, max(asked.steps, default=0)
    if most * alpha < eps:
        reporter.message(
            f"warning: {most} steps move at most {most * alpha:.3g} from their start, less than eps {eps:.3g}; give "
            "more steps or a larger --pgd-alpha.",
            style="bold yellow",
        )
    with progress_bars(reporter) as progress:
        return steps_curve(
            models, images, asked.steps, eps=eps, pgd_alpha=alpha, seed=asked.seed, batch_size=asked.batch_size,
            progress=progress,
        )  # fmt: skip


def _table(record: StepsCurve) -> Table:
    return accuracy_table("steps", [str(count) for count in record.steps], record.models)


def draw(records: Sequence[StepsCurve]) -> "Figure":
    """Draw a line for each model over the steps, from the clean image (0), on a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    models = [(record, curve) for record in records for curve in record.models]
    figure = style.new_figure(4.2 if len(models) <= 4 else 5.6, 2.9)
    axis = figure.subplots()
    draw_curves(axis, [(record.steps, curve) for record, curve in models])
    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    ticks = sorted({step for record in records for step in record.steps})
    axis.set_xticks(ticks, ["clean" if tick == 0 else str(tick) for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(left=-0.1)
    axis.set_xlabel("steps of PGD")
    first = records[0]
    told = f"{first.n:,} test images, Linf eps {eps_text(first.eps)}, step size {eps_text(first.pgd_alpha)}."
    style.note(figure, [told, "One trajectory; bands: 95 % over images."])
    return figure


FIGURE = ModelFigure(
    record=StepsCurve,
    options=StepsCurveOptions,
    summary="accuracy against the steps of PGD",
    title="Accuracy against attack steps",
    caption=(
        "Accuracy under attacks of growing length. Higher is better; a curve that still falls at its end means that "
        "the attack is too short."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
    uses_pgd_alpha=True,
)
