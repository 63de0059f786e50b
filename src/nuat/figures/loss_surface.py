"""Loss around images (Figure 1, section 6.3), with the roughness of the model there.

| paper | here |
|---|---|
| x* = x + delta_1 g + delta_2 g_perp | ``surface`` over d1, d2 in [-extent eps, extent eps] |
| g, the sign of the gradient of the cross-entropy | ``g``, -1, 0 or +1 in each pixel |
| g_perp, an orthogonal direction | ``orthogonal_signs``: a random sign in each pixel, exactly orthogonal to g |

Figure 1 does not say how far its axes reach. Here they reach to eps by default, so the FGSM example is at d1 = eps,
d2 = 0. The plane is not clipped to [0, 1] by default: the box would fold it. Of several images the surface is the mean,
which is smoother than each. Models are therefore ranked by ``roughness``, which is measured image by image.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.core.eps import eps_text
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.threat import check_eps
from nuat.data import Dataset, Images, class_balanced, to_float
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.common_options import ModelOptions
from nuat.figures.figure_record import ModelIdentity, ModelRecord, require
from nuat.figures.kind import ModelFigure
from nuat.figures.measuring import NamedModel, check_all, generator, provenance, rounded
from nuat.figures.roughness import WITHIN, grid_axis, orthogonal_signs, roughness
from nuat.hardware import full_precision
from nuat.progress import Progress, TerminalReporter, progress_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class LossSurfaceOptions(ModelOptions):
    """Figure 1: loss around test images, along the sign of the gradient and a random direction orthogonal to it."""

    images: int | None = None
    """Number of test images, class-balanced: the mean of their surfaces, the median of their roughness. None: 10."""
    index: int | None = None
    """Position of a single test image, from 0, instead of --images."""
    extent: float = 1.0
    """Reach of the axes to each side, as a multiple of eps."""
    resolution: int = 31
    """Points of an axis, odd."""
    clip: bool = False
    """Whether to clip the images of the surface to [0, 1], as attacks do. The box folds the surface."""


@dataclass(frozen=True, kw_only=True)
class ModelSurface:
    """Loss surface of one model."""

    subject: ModelIdentity
    """The model."""
    loss: tuple[tuple[float, ...], ...]
    """[K][K] cross-entropy [nats], mean over the images; row d1, column d2."""
    roughness: tuple[float, ...]
    """[n] roughness at each image, see ``nuat.figures.roughness``."""

    @property
    def median_roughness(self) -> float:
        """Median over the images, by which models are ranked."""
        return statistics.median(self.roughness)

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """Lower and upper quartile of the roughness. None: a single image."""
        if len(self.roughness) < 2:
            return None
        low, _, high = statistics.quantiles(self.roughness, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True, kw_only=True)
class LossSurface(ModelRecord):
    """Loss surfaces of several models around the same images."""

    kind: ClassVar[str] = "loss-surface"

    positions: tuple[int, ...]
    """[n] positions of the images in the test set."""
    distances: tuple[float, ...]
    """[K] values of d1, and of d2, in pixels of [0, 1], ascending, 0 in the middle."""
    clip: bool
    """Whether the images of the surface were clipped to [0, 1]."""
    within: float
    """Half the side of the grid of the roughness, in pixels of [0, 1]. That grid is never clipped."""
    models: tuple[ModelSurface, ...]
    """Surfaces in the order of the models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        k = len(self.distances)
        require(bool(self.models) and k >= 3 and len(set(self.distances)) == k, "a model, and 3 different distances")
        for model in self.models:
            fits = [len(row) for row in model.loss] == [k] * k and len(model.roughness) == self.n
            require(fits, f"a loss at each of {k} x {k} points, and the roughness at {self.n} images")


def loss_surface(
    models: list[NamedModel],
    images: Images,
    positions: Tensor,
    *,
    eps: float,
    extent: float = 1.0,
    resolution: int = 31,
    clip: bool = False,
    seed: int = 0,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> LossSurface:
    """Return the loss surfaces of ``models`` around the test images at ``positions`` (int64 [n]).

    Args:
        models: models on one device.
        images: the test images.
        positions: positions of the images in them.
        eps: radius of the Linf ball.
        extent: reach of the axes, as a multiple of eps.
        resolution: points K of an axis, odd so that the image itself is one.
        clip: whether to clip the images of the surface to [0, 1]; those of the roughness never are.
        seed: seed of the orthogonal directions, which the models share.
        batch_size: points passed forward at once.
        progress: called after each image.

    Raises:
        InputError: a setting out of range, or a loss that is infinite or NaN.
    """
    check_eps("eps", eps)
    if resolution < 3 or resolution % 2 == 0:
        raise InputError(f"resolution={resolution}: expected an odd number of points, at least 3.")
    if not extent > 0:
        raise InputError(f"extent={extent:g}: expected a multiple of eps > 0.")
    axis = grid_axis(extent * eps, resolution)
    chosen = images.select(positions).to(models[0].device)
    x, y = to_float(chosen.images), chosen.labels
    check_all(models, images)
    found = []
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            losses, rough = [], []
            for i in range(len(x)):
                # one seed for both: where both gradients have the same signs, the directions are the same
                draws = [generator(seed, int(positions[i])) for _ in range(2)]
                losses.append(surface(named.model, x[i], y[i], axis, draws[0], clip=clip, batch_size=batch_size))
                rough.append(roughness(named.model, x[i], y[i], eps, draws[1]))
                if progress is not None:
                    progress(named.identity.name, i + 1, len(x))
        loss = rounded(torch.stack(losses).mean(dim=0))
        found.append(ModelSurface(subject=named.identity, loss=loss, roughness=rounded(torch.tensor(rough))))
    return LossSurface(
        **provenance(chosen, models[0].device, seed=seed, eps=eps),
        positions=tuple(positions.tolist()),
        distances=rounded(axis),
        clip=clip,
        within=WITHIN * eps,
        models=tuple(found),
    )


def surface(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    axis: Tensor,
    draws: torch.Generator,
    *,
    clip: bool = False,
    batch_size: int = 250,
) -> Tensor:
    """Return the cross-entropy [K, K] of an image ``x`` [C, H, W] over ``axis`` x ``axis``, float64 on the CPU.

    ``y`` is the label, a scalar; ``draws`` is a generator of the CPU.
    """
    g = input_gradient(lambda z: cross_entropy_sum(model(z), y[None]), x[None])[0].sign()
    g_perp = orthogonal_signs(g, draws)
    grid = torch.cartesian_prod(axis, axis).to(x.device)
    losses = []
    for start in range(0, len(grid), batch_size):
        d1, d2 = grid[start : start + batch_size].to(x.dtype).view(-1, 2, 1, 1, 1).unbind(dim=1)
        points = x + d1 * g + d2 * g_perp
        with torch.no_grad():
            logits = wide(model(points.clamp(0.0, 1.0) if clip else points))
        losses.append(torch.nn.functional.cross_entropy(logits, y.expand(len(logits)), reduction="none"))
    loss = torch.cat(losses).double().cpu().view(len(axis), len(axis))
    if not bool(torch.isfinite(loss).all()):
        raise InputError("the loss is infinite or NaN near a test image, so its surface cannot be drawn.")
    return loss


def _measure(
    asked: LossSurfaceOptions, models: list[NamedModel], dataset: Dataset, reporter: TerminalReporter
) -> LossSurface:
    with progress_bars(reporter) as progress:
        return loss_surface(
            models, dataset.test, _positions(asked, dataset.test), eps=asked.threat.eps, extent=asked.extent,
            resolution=asked.resolution, clip=asked.clip, seed=asked.seed, batch_size=asked.batch_size,
            progress=progress,
        )  # fmt: skip


def _positions(asked: LossSurfaceOptions, test: Images) -> Tensor:
    there = len(test)
    if asked.index is not None:
        if asked.images is not None:
            raise InputError("--images has no effect together with --index; give one of them.")
        if not 0 <= asked.index < there:
            raise InputError(f"--index {asked.index}: expected 0 to {there - 1}, a position in the test images.")
        return torch.tensor([asked.index])
    count = 10 if asked.images is None else asked.images
    if not 1 <= count <= there:
        raise InputError(f"--images {count}: expected 1 to {there}, the number of test images.")
    return class_balanced(test.labels, count, seed=0)


def _table(record: LossSurface) -> Table:
    """Return the models by roughness, with the loss at the image and the highest loss."""
    told = (
        "Roughness: deviation of the margin from its tangent plane within a third of eps, relative to its change. At "
        "1 the gradient forecasts nothing. Smooth does not mean robust."
    )
    title = f"Loss surfaces of {record.n} test images, smoothest first"
    table = Table(title=title, title_justify="left", caption=told, caption_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("median roughness", "quartiles", "loss at the image", "highest loss"):
        table.add_column(name, justify="right")
    middle = len(record.distances) // 2
    for model in sorted(record.models, key=lambda one: one.median_roughness):
        quartiles = model.quartiles
        table.add_row(
            model.subject.name,
            f"{model.median_roughness:.2f}",
            "-" if quartiles is None else f"{quartiles[0]:.2f}-{quartiles[1]:.2f}",
            f"{model.loss[middle][middle]:.3f}",
            f"{max(map(max, model.loss)):.3f}",
        )
    return table


def draw(records: Sequence[LossSurface]) -> "Figure":
    """Draw each model as a surface above its contours, all on one colour scale of the loss [nats]."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    panels = [(record, model) for record in records for model in record.models]
    losses = [np.asarray(model.loss) for _, model in panels]
    norm = Normalize(min(loss.min() for loss in losses), max(loss.max() for loss in losses))
    columns = min(4, len(panels))
    blocks = -(-len(panels) // columns)
    width = max(3.4, style.WIDTH * columns / 4 + 0.5)
    told = style.wrapped(_small_print(records), width)
    below = 0.06 + 0.13 * len(told)  # inches of small print
    height = 3.6 * blocks + 0.2 + below
    figure = style.new_figure(width, height, layout=None)
    left, right, top, bottom = 0.55 / width, 1 - 0.75 / width, 1 - 0.35 / height, (0.42 + below) / height
    grid = figure.add_gridspec(
        2 * blocks, columns, height_ratios=[1.15, 1.0] * blocks, left=left, right=right, top=top, bottom=bottom,
        wspace=0.12, hspace=0.1,
    )  # fmt: skip
    for i, (record, model) in enumerate(panels):
        row, column = 2 * (i // columns), i % columns
        _surface(figure.add_subplot(grid[row, column], projection="3d"), record, model, norm)
        _contours(figure.add_subplot(grid[row + 1, column]), record, model, norm, first=column == 0)
    bar = figure.add_axes((right + 0.12 / width, bottom, 0.1 / width, (top - bottom) * 0.45))
    figure.colorbar(ScalarMappable(norm, style.COLOUR_MAP), cax=bar, label="cross-entropy (nats)")
    bar.grid(visible=False)
    figure.text(0.01, 0.06 / height, "\n".join(told), fontsize=style.SMALL, color=style.GREY, va="bottom")
    return figure


def _surface(axis: Any, record: LossSurface, model: ModelSurface, norm: Any) -> None:
    d = np.asarray(record.distances) / record.eps
    along, across = np.meshgrid(d, d, indexing="ij")
    axis.plot_surface(
        along, across, np.asarray(model.loss), cmap=style.COLOUR_MAP, norm=norm, rcount=len(d), ccount=len(d),
        linewidth=0, antialiased=False, rasterized=True,
    )  # fmt: skip
    axis.set_zlim(norm.vmin, norm.vmax)
    axis.view_init(elev=24, azim=-128)
    axis.set_box_aspect((1, 1, 0.8), zoom=1.1)
    for set_ticks in (axis.set_xticks, axis.set_yticks):
        set_ticks((d[0], 0.0, d[-1]), [f"{tick:g}" for tick in (d[0], 0.0, d[-1])])
    axis.tick_params(labelsize=6, pad=-3)
    axis.set_xlabel("d1", labelpad=-9, fontsize=7)
    axis.set_ylabel("d2", labelpad=-9, fontsize=7)
    ends = "" if model.quartiles is None else f" ({model.quartiles[0]:.2f}\u2013{model.quartiles[1]:.2f})"
    middle = {"transform": axis.transAxes, "ha": "center", "va": "bottom"}
    axis.text2D(0.5, 1.1, style.shorten(model.subject.name, 24), fontsize=8.5, fontweight="bold", **middle)
    axis.text2D(0.5, 1.0, f"roughness {model.median_roughness:.2f}{ends}", fontsize=7, **middle)


def _contours(axis: Any, record: LossSurface, model: ModelSurface, norm: Any, *, first: bool) -> None:
    d = np.asarray(record.distances) / record.eps
    loss = np.asarray(model.loss).T  # contours want a row of constant d2
    axis.pcolormesh(d, d, loss, cmap=style.COLOUR_MAP, norm=norm, shading="gouraud", rasterized=True)
    if loss.max() > loss.min():
        axis.contour(d, d, loss, levels=6, colors="white", linewidths=0.6, alpha=0.8)
    axis.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=4)
    if d[-1] >= 1.0:
        axis.plot(1, 0, "X", color="white", markeredgecolor="black", markersize=5, clip_on=False)
    axis.set_aspect("equal")
    axis.grid(visible=False)
    ticks = (d[0], 0.0, d[-1])
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks] if first else [])
    axis.set_xlabel("d1 / eps")
    axis.set_ylabel("d2 / eps" if first else "")


def _small_print(records: Sequence[LossSurface]) -> list[str]:
    record = records[0]
    several = record.n > 1
    images = f"mean surface of {record.n} test images" if several else "surface of one test image"
    box = "clipped to [0, 1]" if record.clip else "not clipped to [0, 1]"
    median = "median over the images (quartiles) of the" if several else "the"
    return [
        f"d1: sign of the gradient; d2: random signs orthogonal to it. Linf eps {eps_text(record.eps)}; "
        f"{images}, {box}. Dot: the image; cross: FGSM. Lines: six levels of each panel.",
        f"Roughness: {median} RMS deviation of the margin (largest other logit minus that of the label) from its "
        f"tangent plane within {eps_text(record.within)}, relative to its RMS change. Smooth does not mean robust.",
    ]


FIGURE = ModelFigure(
    record=LossSurface,
    options=LossSurfaceOptions,
    summary="Figure 1: loss around images, and the roughness of each model",
    title="Loss surface",
    caption=(
        "Loss around images, along the sign of its gradient and along a random direction orthogonal to it. Smooth is "
        "good: hills and folds hide adversarial images from attacks of few steps."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
    has_colour_map=True,
)
