"""``nuat analyse eps-curve``."""

from dataclasses import dataclass

from rich.console import Console

from nuat.analysis.eps_curve import eps_curve
from nuat.commands.analyse.options import (
    ModelOptions,
    finish,
    load_models,
    parse_models,
    read_dataset,
    target,
    test_images,
)
from nuat.commands.analyse.tables import curve_table
from nuat.core.eps import eps_text
from nuat.progress import TerminalReporter, progress_bars

_FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class _EpsCurve(ModelOptions):
    """Accuracy under PGD against eps, with 95 % intervals."""

    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    radii: tuple[float, ...] = ()
    """Radii that are attacked; by default multiples of eps from 0 to 4, as far as they are at most 1."""
    steps: int = 20
    """Of PGD at each radius; its step is 2.5 radius / steps."""


def run(arguments: list[str]) -> int:
    """``nuat analyse eps-curve MODELS... [--radii X,Y,...]``."""
    asked, found = parse_models(_EpsCurve, arguments, "nuat analyse eps-curve")
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    images = test_images(dataset, asked.n, 1000)
    eps = asked.threat.eps
    radii = asked.radii or tuple(factor * eps for factor in _FACTORS if factor * eps <= 1.0)
    console = Console()
    reporter = TerminalReporter(console)
    models = load_models(asked, found, dataset, reporter)
    with progress_bars(reporter) as progress:
        record = eps_curve(
            models, images, radii, eps=eps, steps=asked.steps, seed=asked.seed, batch_size=asked.batch_size,
            progress=progress,
        )  # fmt: skip
    in_steps = "/" in eps_text(eps)  # 8/255, not 0.3
    places = [eps_text(radius) if in_steps else f"{radius:.4g}" for radius in record.radii]
    finish(record, asked, folder, console, curve_table("radius", places, record.models))
    return 0
