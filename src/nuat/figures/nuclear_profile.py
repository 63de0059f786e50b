"""Nuclear norm of logit differences on robust and on other images (Figure 3a).

The paper shows that robust samples have lower norms; it names neither the attack nor the batches. Here an image is
robust if the model still predicts its label under PGD (section 2: a misclassified image is not robust). The robust
images and the others are each dealt at random into batches of equal size. No image is in two batches, and a remainder
is not used. Each batch is attacked as in training (Eq. 1, one step from a Bernoulli start of eps / 2, lambda 1), and
the norm of f(X~) - f(X) is divided by the size of the batch. A group smaller than a batch has no norms: it was not
measured.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from rich.table import Table
from torch import Tensor

from nuat.attacks import PGD, NuclearNormAttack, eval_mode
from nuat.core.eps import eps_text
from nuat.core.nuclear import nuclear_term
from nuat.data import Dataset, ImageSet, to_float
from nuat.errors import InputError
from nuat.figures import style
from nuat.figures.common_options import SampleOptions
from nuat.figures.figure_record import ModelIdentity, ModelRecord, require
from nuat.figures.kind import ModelFigure
from nuat.figures.measuring import NamedModel, check_all, generator, provenance, rounded
from nuat.hardware import full_precision
from nuat.progress import Progress, TerminalReporter, progress_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class NuclearProfileOptions(SampleOptions):
    """Figure 3a: nuclear norm of logit differences on robust and on other images."""

    steps: int = 50
    """Steps of the PGD that separates robust images from the others."""
    batch_size: int = 16
    """Images in a batch whose norm is taken."""
    batches: int = 50
    """Most batches of robust images, and of the others. No image is in two."""


@dataclass(frozen=True, kw_only=True)
class ModelProfile:
    """Norms of one model."""

    subject: ModelIdentity
    """The model."""
    robust_images: int
    """Number of images that withstand PGD."""
    robust: tuple[float, ...]
    """[batches] ||f(X~) - f(X)||_* / M of batches of robust images. Empty: fewer images than a batch."""
    non_robust: tuple[float, ...]
    """The same for the other images."""


@dataclass(frozen=True, kw_only=True)
class NuclearProfile(ModelRecord):
    """Norms of several models on the same images."""

    kind: ClassVar[str] = "nuclear-profile"

    steps: int
    """Steps of the PGD that separates robust images from the others."""
    pgd_alpha: float
    """Step size of that PGD, in pixels of [0, 1]."""
    batch_size: int
    """M, images in a batch whose norm is taken."""
    alpha: float
    """Magnitude of the Bernoulli start."""
    models: tuple[ModelProfile, ...]
    """Norms in the order of the models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.models) and self.batch_size >= 1, "at least one model and one image in a batch")
        require(all(0 <= model.robust_images <= self.n for model in self.models), f"0 to {self.n} robust images")


def nuclear_profile(
    models: list[NamedModel],
    images: ImageSet,
    *,
    eps: float,
    pgd_alpha: float,
    steps: int = 50,
    batch_size: int = 16,
    batches: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> NuclearProfile:
    """Return the norms of ``models`` on ``images``, on at most ``batches`` batches of each group.

    Raises:
        InputError: a setting out of range, or fewer images than a batch.
    """
    if batch_size < 1 or batches < 1:
        raise InputError(f"batch_size={batch_size}, batches={batches}: expected at least 1 of each.")
    if len(images) < batch_size:
        raise InputError(f"{len(images)} images are fewer than a batch of {batch_size}; give more, or --batch-size.")
    device = models[0].device
    images = images.to(device)
    check_all(models, images)
    found = []
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            robust = _robust(named, images, eps, pgd_alpha, steps, seed, progress)
            norms = []
            for group, members in enumerate((robust.nonzero().squeeze(1), (~robust).nonzero().squeeze(1))):
                order = members[torch.randperm(len(members), generator=generator(seed, group))]
                of_group = []
                for k in range(min(batches, len(members) // batch_size)):
                    batch = images.select(order[k * batch_size : (k + 1) * batch_size])
                    of_group.append(_norm(named, batch, eps, generator(seed, k, group, device=device)))
                norms.append(of_group)
        found.append(
            ModelProfile(
                subject=named.identity,
                robust_images=int(robust.sum()),
                robust=rounded(torch.tensor(norms[0])),
                non_robust=rounded(torch.tensor(norms[1])),
            )
        )
    return NuclearProfile(
        **provenance(images, device, seed=seed, eps=eps),
        steps=steps,
        pgd_alpha=pgd_alpha,
        batch_size=batch_size,
        alpha=eps / 2,
        models=tuple(found),
    )


def _robust(
    named: NamedModel,
    images: ImageSet,
    eps: float,
    pgd_alpha: float,
    steps: int,
    seed: int,
    progress: Progress | None,
    at_once: int = 250,
) -> Tensor:
    """Return bool [n] on the CPU: whether the model predicts the label of each image under PGD."""
    flags = []
    for start in range(0, len(images), at_once):
        x, y = to_float(images.images[start : start + at_once]), images.labels[start : start + at_once]
        draws = generator(seed, start, device=named.device)
        x_adv = PGD(named.model, eps=eps, alpha=pgd_alpha, steps=steps, generator=draws)(x, y)
        with torch.no_grad():
            flags.append((named.model(x_adv).argmax(dim=1) == y).cpu())
        if progress is not None:
            progress(named.identity.name, min(start + at_once, len(images)), len(images))
    return torch.cat(flags)


def _norm(named: NamedModel, batch: ImageSet, eps: float, draws: torch.Generator) -> float:
    """Return ||f(X~) - f(X)||_* / M of a batch under the attack of training."""
    x = to_float(batch.images)
    x_adv = NuclearNormAttack(named.model, eps=eps, generator=draws)(x, batch.labels)
    with torch.no_grad():
        return float(nuclear_term(named.model(x_adv), named.model(x)))


def _measure(
    asked: NuclearProfileOptions, models: list[NamedModel], dataset: Dataset, reporter: TerminalReporter
) -> NuclearProfile:
    images = asked.sample(dataset)
    with progress_bars(reporter) as progress:
        return nuclear_profile(
            models, images, eps=asked.threat.eps, pgd_alpha=asked.threat.pgd_alpha, steps=asked.steps,
            batch_size=asked.batch_size, batches=asked.batches, seed=asked.seed, progress=progress,
        )  # fmt: skip


def _table(record: NuclearProfile) -> Table:
    table = Table(title=f"Median nuclear norm per image, batches of {record.batch_size}", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("robust images", "batches", "norm", "other images", "batches", "norm"):
        table.add_column(name, justify="right")
    for model in record.models:
        cells: list[str] = []
        for images, norms in _groups(record, model):
            cells += [str(images), str(len(norms)), f"{statistics.median(norms):.3f}" if norms else "-"]
        table.add_row(model.subject.name, *cells)
    return table


def _groups(record: NuclearProfile, model: ModelProfile) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Return images and norms of the robust images, then of the others."""
    return (model.robust_images, model.robust), (record.n - model.robust_images, model.non_robust)


def draw(records: Sequence[NuclearProfile]) -> "Figure":
    """Draw two boxes for each model: norms of batches of robust images, and of batches of the others.

    Raises:
        InputError: the batches differ in size, so their norms cannot be compared.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sizes = sorted({record.batch_size for record in records})
    if len(sizes) > 1:
        raise InputError(f"nuclear norms of batches of {sizes[0]} and {sizes[1]} images cannot share a figure.")
    models = [(record, model) for record in records for model in record.models]
    figure = style.new_figure(max(3.4, min(style.WIDTH, 1.4 + 0.85 * len(models))), 2.9)
    axis = figure.subplots()
    for i, (record, model) in enumerate(models):
        robust, others = _groups(record, model)
        _box(axis, i - 0.2, style.BLUE, *robust)
        _box(axis, i + 0.2, style.VERMILION, *others)
    names = [style.shorten(model.subject.name, 18) for _, model in models]
    upright = len(models) > 4 or max(map(len, names)) > 10
    axis.set_xticks(range(len(models)), names, rotation=30 if upright else 0, ha="right" if upright else "center")
    axis.set_xlim(-0.5, len(models) - 0.5)
    every = [norm for _, model in models for norm in (*model.robust, *model.non_robust)]
    if every and min(every) > 0 and max(every) > 10 * min(every):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_ylim(bottom=0)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel("nuclear norm per image")
    handles = [Patch(facecolor=style.BLUE, label="robust"), Patch(facecolor=style.VERMILION, label="not robust")]
    axis.legend(handles=handles, loc="upper left", ncols=2, bbox_to_anchor=(0, 1.2), borderaxespad=0)
    style.note(figure, _small_print(records[0]))
    return figure


def _box(axis: Any, place: float, shade: str, images: int, norms: Sequence[float]) -> None:
    """Draw the norms of a group under its number of images, or say that it has too few images for a batch."""
    text = {"transform": axis.get_xaxis_transform(), "ha": "center", "fontsize": 6, "color": style.GREY}
    if not norms:
        axis.text(place, 0.03, f"not measured: {images} image{'' if images == 1 else 's'}", rotation=90, **text)
        return
    axis.text(place, 1.01, f"{images:,}", va="bottom", **text)
    axis.boxplot(
        [norms], positions=[place], widths=0.32, patch_artist=True, manage_ticks=False, whis=(5, 95), showfliers=False,
        boxprops={"facecolor": shade, "alpha": 0.75, "edgecolor": shade}, medianprops={"color": "black"},
        whiskerprops={"color": shade}, capprops={"color": shade},
    )  # fmt: skip


def _small_print(record: NuclearProfile) -> list[str]:
    return [
        f"{record.n:,} test images, Linf eps {eps_text(record.eps)}. Robust: still right under PGD-{record.steps}.",
        f"Norm of f(X\u0303) \u2212 f(X) under the attack of training (Eq. 1), in batches of {record.batch_size}.",
        "Box: quartiles; line: median; whiskers: 5-95 % of the batches. Numbers on top: images of the group.",
    ]


FIGURE = ModelFigure(
    record=NuclearProfile,
    options=NuclearProfileOptions,
    summary="Figure 3a: nuclear norms on robust and on other images",
    title="Nuclear norm of logit differences",
    caption=(
        "Distance by which an attack moves the logits of a batch, for images that withstood PGD and for those that did "
        "not. Small is smooth; a robust model keeps both small."
    ),
    measure=_measure,
    draw=draw,
    table=_table,
    uses_pgd_alpha=True,
)
