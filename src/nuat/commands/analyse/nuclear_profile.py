"""``nuat analyse nuclear-profile``."""

import statistics
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nuat.analysis.nuclear_profile import NuclearProfile, nuclear_profile
from nuat.commands.analyse.options import (
    ModelOptions,
    finish,
    load_models,
    parse_models,
    read_dataset,
    target,
    test_images,
)
from nuat.progress import TerminalReporter, progress_bars


@dataclass(frozen=True, kw_only=True)
class _NuclearProfile(ModelOptions):
    """Figure 3a: the nuclear norm of logit differences on robust and on other images."""

    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    steps: int = 50
    """Of the PGD that tells robust images from others."""
    batch_size: int = 16
    """Images of a batch whose norm is taken."""
    batches: int = 50
    """Random batches of robust images, and of the others, at most; no image is in two."""


def run(arguments: list[str]) -> int:
    """``nuat analyse nuclear-profile MODELS... [--n N] [--steps S]``."""
    asked, found = parse_models(_NuclearProfile, arguments, "nuat analyse nuclear-profile", steps_of_pgd=True)
    folder = target(asked, found[0].folder)
    dataset = read_dataset(asked.data)
    images = test_images(dataset, asked.n, 1000)
    console = Console()
    reporter = TerminalReporter(console)
    models = load_models(asked, found, dataset, reporter)
    with progress_bars(reporter) as progress:
        record = nuclear_profile(
            models, images, eps=asked.threat.eps, pgd_alpha=asked.threat.pgd_alpha, steps=asked.steps,
            batch_size=asked.batch_size, batches=asked.batches, seed=asked.seed, progress=progress,
        )  # fmt: skip
    finish(record, asked, folder, console, _table(record))
    return 0


def _table(record: NuclearProfile) -> Table:
    table = Table(title=f"Median nuclear norm per image, batches of {record.batch_size}", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("robust images", "batches", "norm", "other images", "batches", "norm"):
        table.add_column(name, justify="right")
    for model in record.models:
        cells: list[str] = []
        for images, norms in (
            (model.robust_images, model.robust),
            (record.n - model.robust_images, model.non_robust),
        ):
            cells += [str(images), str(len(norms)), f"{statistics.median(norms):.3f}" if norms else "-"]
        table.add_row(escape(model.subject.name), *cells)
    return table
