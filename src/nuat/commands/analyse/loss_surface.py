"""``nuat analyse loss-surface``."""

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nuat.analysis.loss_surface import LossSurface, loss_surface
from nuat.commands.analyse.options import ModelOptions, finish, given, load_models, parse_models, read_dataset, target
from nuat.data import class_balanced
from nuat.errors import InputError
from nuat.progress import TerminalReporter, progress_bars


@dataclass(frozen=True, kw_only=True)
class _LossSurface(ModelOptions):
    """Figure 1: the loss around test images along the gradient's sign and a direction orthogonal to it."""

    images: int = 10
    """Test images, class-balanced, that the surface is averaged over, and that roughness is the median of."""
    index: int | None = None
    """One test image instead, by its position from 0."""
    extent: float = 1.0
    """How far the axes reach on each side, as a multiple of eps."""
    resolution: int = 31
    """Points of an axis, odd."""
    clip: bool = False
    """Whether to clip the images of the surface to [0, 1], as attacks do; the box folds it."""


def run(arguments: list[str]) -> int:
    """``nuat analyse loss-surface MODELS... [--images N | --index I]``."""
    asked, found = parse_models(_LossSurface, arguments, "nuat analyse loss-surface")
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    there = len(dataset.test)
    if asked.index is not None:
        if given(arguments, "--images"):
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
    finish(record, asked, folder, console, _table(record))
    return 0


def _table(record: LossSurface) -> Table:
    """Return the models by roughness, and the loss where the surface begins and where it is highest."""
    table = Table(title=f"Loss surfaces of {record.n} test images, the smoothest first", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("median roughness", "quartiles", "loss at the image", "highest loss"):
        table.add_column(name, justify="right")
    middle = len(record.distances) // 2
    for model in sorted(record.models, key=lambda one: one.median_roughness):
        quartiles = model.quartiles
        table.add_row(
            escape(model.subject.name),
            f"{model.median_roughness:.2f}",
            "-" if quartiles is None else f"{quartiles[0]:.2f}-{quartiles[1]:.2f}",
            f"{model.loss[middle][middle]:.3f}",
            f"{max(map(max, model.loss)):.3f}",
        )
    table.caption = (
        "roughness: how far the margin is from its tangent plane within a third of eps, over how far it changes; "
        "1: the gradient forecasts nothing; smooth does not mean robust"
    )
    table.caption_justify = "left"
    return table
