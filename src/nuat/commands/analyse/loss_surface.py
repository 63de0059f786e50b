"""``nuat analyse loss-surface``."""

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from nuat.analysis.loss_surface import LossSurface, loss_surface
from nuat.commands.analyse.options import ModelOptions, finish, load_models, parse_models, read_dataset, target
from nuat.data import class_balanced
from nuat.errors import InputError
from nuat.progress import TerminalReporter, progress_bars

_IMAGES = 10


@dataclass(frozen=True, kw_only=True)
class _LossSurface(ModelOptions):
    """Figure 1: the loss around test images along the gradient's sign and a direction orthogonal to it."""

    images: int = _IMAGES
    """Test images, class-balanced, that the surface is averaged over."""
    index: int | None = None
    """One test image instead, by its position from 0."""
    extent: float = 1.0
    """How far the axes reach on each side, as a multiple of eps."""
    resolution: int = 31
    """Points of an axis, odd."""
    clip: bool = False
    """Whether to clip the images to [0, 1], as attacks do; the box folds the surface, which counts as roughness."""


def run(arguments: list[str]) -> int:
    """``nuat analyse loss-surface MODELS... [--images N | --index I]``."""
    asked, found = parse_models(_LossSurface, arguments, "nuat analyse loss-surface")
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    there = len(dataset.test)
    if asked.index is not None:
        if asked.images != _IMAGES:
            raise InputError("--images has no effect beside --index; give one of them.")
        if not 0 <= asked.index < there:
            raise InputError(f"--index {asked.index}: expected 0 to {there - 1}, a position in the test images.")
        positions = torch.tensor([asked.index])
    elif 1 <= asked.images <= there:
        positions = class_balanced(dataset.test.labels, asked.images, seed=0)
    else:
        raise InputError(f"--images {asked.images}: expected 1 to {there}, the number of test images.")
    console = Console()
    reporter = TerminalReporter(console)
    models = load_models(asked, found, dataset, reporter)
    with progress_bars(reporter) as progress:
        record = loss_surface(
            models, dataset.test, positions, eps=asked.threat.eps, extent=asked.extent, resolution=asked.resolution,
            clip=asked.clip, seed=asked.seed, batch_size=asked.batch_size, progress=progress,
        )  # fmt: skip
    console.print(_table(record))
    finish(record, asked, folder, console)
    return 0


def _table(record: LossSurface) -> Table:
    table = Table(
        title="Loss surfaces, the smoothest first; +- is the standard error over images", title_justify="left"
    )
    table.add_column("model")
    for name in ("roughness", "deviation (nats)", "loss at the image", "highest loss"):
        table.add_column(name, justify="right")
    middle = len(record.distances) // 2
    for model in sorted(record.models, key=lambda one: one.mean_roughness):
        error = model.standard_error
        table.add_row(
            model.subject.name,
            f"{model.mean_roughness:.2f}" + ("" if error is None else f" +- {error:.2f}"),
            f"{model.mean_deviation:.3f}",
            f"{model.loss[middle][middle]:.3f}",
            f"{max(map(max, model.loss)):.3f}",
        )
    return table
