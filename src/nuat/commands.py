"""What each command of the command line does; ``nuat.cli`` imports this once a command is known."""

import hashlib
import os
import signal
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from nuat import checkpoints, data, evaluation, hardware
from nuat.arguments import parse
from nuat.config import DataConfig, ThreatConfig, TrainConfig
from nuat.errors import InputError
from nuat.monitors import RunStopped
from nuat.paper import TABLES
from nuat.progress import TerminalReporter
from nuat.recipes import DEFAULT, RECIPES, find
from nuat.records import RunFolder, read_config, read_data_config
from nuat.report.tables import evaluation_table, paper_table
from nuat.results import Evaluation
from nuat.signals import Interrupted
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


@dataclass(frozen=True, kw_only=True)
class _Evaluate:
    """Attack a trained model on test images; print a table and write it as JSON."""

    model: tyro.conf.Positional[Path]
    """Folder of a run (its best weights are taken) or a .safetensors file."""
    attacks: tuple[str, ...] = ("clean", "pgd-100", "gama-100")
    """Attacks: clean, fgsm, rfgsm, pgd-<steps>, gama-<steps>, nuclear, nuclear-2, autoattack, autoattack-v1."""
    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    json: Path | None = None
    """File of the results; none: evaluation-<time>.json beside the weights."""
    seed: int = 0
    """Seed of the random starts."""
    batch_size: int = 250
    """Images attacked at once."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set; by default the one that the model was trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images; by default those that the run used."""


def train(arguments: list[str]) -> int:
    """``nuat train [RECIPE] [--any.field VALUE]`` or ``nuat train --resume RUN``."""
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
    found = _evaluate(
        folder.best,
        dataset,
        _Evaluate(
            model=folder.path,
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


def evaluate(arguments: list[str]) -> int:
    """``nuat evaluate RUN|WEIGHTS [--attacks ...] [--n ...] [--json FILE]``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parse(_Evaluate, ["--help"], prog="nuat evaluate")
    if arguments[0].startswith("-"):
        raise InputError("say first what to evaluate: nuat evaluate RUN|WEIGHTS --attacks ....")
    weights = checkpoints.weights_file(Path(arguments[0]))
    info = checkpoints.read_info(weights)
    home = RunFolder(weights.parent)
    if home.config.is_file():
        images = read_data_config(home.config)
    elif any(word.startswith(("--data.name", "--data.path")) for word in arguments) or "--help" in arguments:
        images = DataConfig(validation=0)  # only the test images are used
    else:
        raise InputError(f"{weights} lies in no run, so say which images to attack: --data.name or --data.path.")
    default = _Evaluate(model=Path(arguments[0]), threat=info.threat, data=images)
    asked = parse(_Evaluate, arguments, prog="nuat evaluate", default=default)
    target = asked.json or weights.with_name(f"evaluation-{datetime.now():%Y%m%d-%H%M%S}.json")
    _check_target(target)
    dataset = data.load(asked.data)
    if asked.n is not None and asked.n == _Evaluate.n:  # a number that the user did not choose is a cap, not a demand
        asked = replace(asked, n=min(asked.n, len(dataset.test)))
    console = Console()
    # a name for these settings, so that two evaluations of one file do not take each other's place
    settings = repr((asked.n, asked.seed, asked.batch_size, asked.threat, asked.data)).encode()
    digits = hashlib.sha256(settings).hexdigest()[:8]
    state = weights.with_name(f"{weights.stem}.evaluation-{digits}.partial.json")
    again = "the same command"
    found = _evaluate(weights, dataset, asked, state, TerminalReporter(console), again=again)
    found.save(target)
    console.print(evaluation_table(found))
    console.print(f"written to {target}", highlight=False, soft_wrap=True)
    return 0


def _check_target(path: Path) -> None:
    """Refuse a file that could not be written, before hours pass."""
    if path.is_dir():
        raise InputError(f"--json {path}: is a folder; give the name of a file.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--json {path}: no file can be written in {folder}; choose another --json.")


def _evaluate(
    weights: Path, dataset: data.Dataset, asked: _Evaluate, state: Path, reporter: TerminalReporter, *, again: str
) -> Evaluation:
    """Evaluate a weights file on the test images, with progress; ``again`` is what goes on after an interruption."""
    info = checkpoints.read_info(weights)
    if (dataset.channels, dataset.image_size) != (info.channels, info.image_size):
        raise InputError(
            f"{weights} takes {info.channels} x {info.image_size} images (channels, size), but {dataset.source} has "
            f"{dataset.channels} x {dataset.image_size}."
        )
    if len(dataset.classes) != len(info.classes):
        raise InputError(f"{weights} has {len(info.classes)} classes, but {dataset.source} has {len(dataset.classes)}.")
    model = checkpoints.load(weights, device=hardware.resolve(asked.device))
    # the same function, a sixth faster on the CPU (mnist-cnn, forward and backward, one thread)
    model.to(memory_format=torch.channels_last)
    eps, alpha = asked.threat.eps, asked.threat.pgd_alpha
    for name in asked.attacks:
        if name.startswith("pgd-") and name[4:].isdigit() and int(name[4:]) * alpha < eps:
            reporter.message(
                f"warning: {name} moves at most {int(name[4:]) * alpha:.3g} from its start, less than eps {eps:.3g}; "
                "give more steps or a larger --pgd-alpha.",
                style="bold yellow",
            )
    current = ""

    def progress(name: str, done: int, total: int) -> None:
        nonlocal current
        if name != current:
            reporter.end()
            reporter.begin(f"{name:<12}", total)
            current = name
        reporter.advance(done)

    try:
        return evaluation.evaluate(
            model,
            dataset.test,
            asked.attacks,
            threat=asked.threat,
            n=asked.n,
            seed=asked.seed,
            batch_size=asked.batch_size,
            state_path=state,
            progress=progress,
        )
    except KeyboardInterrupt:
        raise Interrupted(
            signal.SIGINT, f"stopped; what is finished is kept in {state}. Continue with: {again}"
        ) from None
    finally:
        reporter.end()


def recipes(arguments: list[str]) -> int:
    """``nuat recipes [--table 1a]``."""
    asked = parse(_Recipes, arguments, prog="nuat recipes")
    console = Console()
    if asked.table is not None:
        console.print(paper_table(asked.table))
        return 0
    table = Table(show_header=True, box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it trains")
    for name, recipe in RECIPES.items():
        table.add_row(name, (recipe.__doc__ or "").strip().splitlines()[0])
    console.print(table)
    console.print(
        "\n'nuat train RECIPE --help' shows every setting; any can be changed: --epochs 10.\n"
        f"'nuat recipes --table 1a' shows the paper's numbers beside them; tables: {', '.join(TABLES)}.",
        highlight=False,
    )
    return 0


@dataclass(frozen=True, kw_only=True)
class _Recipes:
    """List the recipes that 'nuat train' takes."""

    table: str | None = None
    """Only those of a table of the paper, with its numbers: 1a, 1b, 2-cifar10, 2-imagenet100, 2-mnist; none: all."""
