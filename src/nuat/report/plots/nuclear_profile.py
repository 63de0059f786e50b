"""Figure 3a: nuclear norms of logit differences on robust and on other images."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nuat.analysis.nuclear_profile import NuclearProfile
from nuat.core.eps import eps_text
from nuat.errors import InputError
from nuat.report.plots import style


def draw(records: Sequence[NuclearProfile]) -> Figure:
    """Draw two boxes a model: the norms of batches of robust images, and of batches of the others.

    Raises:
        InputError: the batches are of different sizes, so their norms cannot be set side by side.
    """
    sizes = sorted({record.batch_size for record in records})
    if len(sizes) > 1:
        raise InputError(f"nuclear norms of batches of {sizes[0]} and {sizes[1]} images cannot share a figure.")
    models = [(record, model) for record in records for model in record.models]
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(max(3.4, min(style.WIDTH, 1.4 + 0.85 * len(models))), 2.9), layout="constrained")
        axis = figure.subplots()
        for i, (record, model) in enumerate(models):
            others = record.n - model.robust_images
            for place, norms, images in (
                (i - 0.2, model.robust, model.robust_images),
                (i + 0.2, model.non_robust, others),
            ):
                if norms:
                    _count(axis, place, images)
            _box(axis, model.robust, i - 0.2, style.BLUE, model.robust_images)
            _box(axis, model.non_robust, i + 0.2, style.VERMILION, others)
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


def _box(axis: Any, norms: Sequence[float], place: float, shade: str, images: int) -> None:
    """Draw a group's norms, or say that there are too few images for a batch."""
    if not norms:
        told = f"not measured: {images} image{'' if images == 1 else 's'}"
        across = axis.get_xaxis_transform()
        axis.text(place, 0.03, told, transform=across, rotation=90, ha="center", fontsize=6, color=style.GREY)
        return
    axis.boxplot(
        [norms], positions=[place], widths=0.32, patch_artist=True, manage_ticks=False, whis=(5, 95), showfliers=False,
        boxprops={"facecolor": shade, "alpha": 0.75, "edgecolor": shade}, medianprops={"color": "black"},
        whiskerprops={"color": shade}, capprops={"color": shade},
    )  # fmt: skip


def _count(axis: Any, place: float, images: int) -> None:
    """Write how many images the group under a place has."""
    axis.text(
        place, 1.01, f"{images:,}", transform=axis.get_xaxis_transform(), ha="center", va="bottom", fontsize=6,
        color=style.GREY,
    )  # fmt: skip


def _small_print(record: NuclearProfile) -> list[str]:
    return [
        f"{record.n:,} test images, Linf eps {eps_text(record.eps)}. Robust: still right under PGD-{record.steps}.",
        f"Norm of f(X\u0303) \u2212 f(X) under the attack of training (Eq. 1), in batches of {record.batch_size}.",
        "Box: quartiles; line: median; whiskers: 5-95 % of the batches. Numbers on top: images of the group.",
    ]
