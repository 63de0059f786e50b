"""``nuat train``."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from torch import nn

from nuat import checkpoints, data, hardware
from nuat.arguments import parse
from nuat.commands.evaluate import Evaluate, attack_weights
from nuat.config import TrainConfig
from nuat.errors import InputError
from nuat.monitors import RunStopped
from nuat.progress import TerminalReporter
from nuat.recipes import DEFAULT, RECIPES, find
from nuat.records import RunFolder, read_config
from nuat.report.tables import evaluation_table
from nuat.suite import jobs
from nuat.training import run


@dataclass(frozen=True, kw_only=True)
class _Train:
    """Train, evaluate and record a model."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run, new or empty; none: runs/<recipe>-<time> under the current folder."""


@dataclass(frozen=True, kw_only=True)
class _Resume:
    """Go on with a run that was cut off, with its own settings."""

    resume: Path
    """Folder of the run."""


def train(arguments: list[str]) -> int:
    """``nuat train [RECIPE] [--any.field VALUE]`` or ``nuat train --resume RUN``; --model is short for --model.name."""
    arguments = [re.sub(r"^--model(?==|$)", "--model.name", word) for word in arguments]
    resume = any(word == "--resume" or word.startswith("--resume=") for word in arguments)
    if resume:
        folder = RunFolder(parse(_Resume, arguments, prog="nuat train").resume)
        recipe, config = read_config(folder.config, RECIPES)
    else:
        named = bool(arguments) and not arguments[0].startswith("-")
        recipe = arguments[0] if named else DEFAULT
        given = parse(_Train, arguments[named:], prog=f"nuat train {recipe}", default=_Train(config=find(recipe)()))
        folder, config = RunFolder(given.out or _new_folder(recipe)), given.config
    jobs(config.evaluation.attacks, nn.Identity(), config.threat)  # an attack that cannot run is said before hours pass
    console = Console()
    reporter = TerminalReporter(console)
    device = hardware.resolve(config.device)
    reporter.message(f"{recipe}: {config.epochs} epochs on {hardware.describe(device)}; writing to {folder.path}")
    try:
        finished = run(config, out=folder.path, recipe=recipe, resume=resume, reporter=reporter)
    except RunStopped as stopped:
        left = f" The last checkpoint is kept in {folder.path}." if folder.checkpoint.is_file() else ""
        raise InputError(f"the run was ended: {stopped}{left}") from None
    summary = finished.summary
    reporter.message(
        f"trained in {summary['seconds']:.1f} s ({summary['forwards']:,} images forward, {summary['backwards']:,} "
        f"backward); best epoch {summary['best_epoch']} of {summary['epochs']}"
    )
    dataset = data.load(config.data)
    if config.evaluation.n is not None and config.evaluation.n > len(dataset.test):
        reporter.message(f"evaluating on all {len(dataset.test)} test images; evaluation.n asked for more")
    found = attack_weights(
        folder.best,
        dataset,
        Evaluate(
            model=str(folder.path),
            attacks=config.evaluation.attacks,
            n=None if config.evaluation.n is None else min(config.evaluation.n, len(dataset.test)),
            threat=config.threat,
            seed=config.seed,
            batch_size=config.evaluation.batch_size,
            device=config.device,
        ),
        folder.evaluation_state,
        reporter,
        again=f"nuat train --resume {folder.path}",
    )
    found.save(folder.evaluation)
    console.print(evaluation_table(found))
    from nuat.report.figures import adversarial_examples, training_curves  # matplotlib takes a second

    training_curves(folder.read_metrics(), folder.curves)
    model = checkpoints.load(folder.best, device=device)
    adversarial_examples(model, dataset.test, dataset.classes, config.threat, folder.examples)
    reporter.message(
        f"weights: {folder.best}\npicture: {folder.examples}\nrecord:  {folder.path}\n"
        f"next:    nuat evaluate {folder.path} --attacks clean,pgd-100,gama-100,autoattack --n 200"
    )
    return 0


def _new_folder(recipe: str) -> Path:
    """Return a folder under runs/ that does not exist."""
    stem = Path("runs") / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}-{count}")
    return path
