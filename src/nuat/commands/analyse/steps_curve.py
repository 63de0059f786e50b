"""``nuat analyse steps-curve``."""

from dataclasses import dataclass

from rich.console import Console

from nuat.analysis.steps_curve import steps_curve
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
from nuat.progress import TerminalReporter, progress_bars


@dataclass(frozen=True, kw_only=True)
class _StepsCurve(ModelOptions):
    """Accuracy against the steps of PGD, read off one trajectory, with 95 % intervals."""

    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    steps: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100)
    """Numbers of steps after which the trajectory is looked at; 0 is the clean image."""


def run(arguments: list[str]) -> int:
    """``nuat analyse steps-curve MODELS... [--steps N,M,...]``."""
    asked, found = parse_models(_StepsCurve, arguments, "nuat analyse steps-curve", steps_of_pgd=True)
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    images = test_images(dataset, asked.n, 1000)
    console = Console()
    reporter = TerminalReporter(console)
    eps, alpha, most = asked.threat.eps, asked.threat.pgd_alpha, max(asked.steps, default=0)
    if most * alpha < eps:
        reporter.message(
            f"warning: {most} steps move at most {most * alpha:.3g} from their start, less than eps {eps:.3g}; give "
            "more steps or a larger --pgd-alpha.",
            style="bold yellow",
        )
    models = load_models(asked, found, dataset, reporter)
    with progress_bars(reporter) as progress:
        record = steps_curve(
            models, images, asked.steps, eps=eps, pgd_alpha=alpha, seed=asked.seed,
            batch_size=asked.batch_size, progress=progress,
        )  # fmt: skip
    finish(record, asked, folder, console, curve_table("steps", [str(count) for count in record.steps], record.models))
    return 0
