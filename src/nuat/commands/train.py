"""``nuat train``."""

import contextlib
import dataclasses
import re
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from torch import nn

from nuat import data, hardware
from nuat.attacks.catalogue import jobs
from nuat.commands.evaluate import Evaluate, attack_weights
from nuat.config import TrainConfig
from nuat.config.arguments import parse, without
from nuat.data import Dataset
from nuat.distributed import launch
from nuat.distributed.threads import threads_for_training
from nuat.distributed.world import World, joined, restarted
from nuat.errors import InputError
from nuat.figures import adversarial_examples, training_curves
from nuat.progress import TerminalReporter, terminal
from nuat.recipes import DEFAULT, RECIPES, find
from nuat.records import checkpoints, environment
from nuat.records.folder import RunFolder
from nuat.records.settings import read_config
from nuat.report.tables import evaluation_table
from nuat.training.monitors import RunStopped
from nuat.training.run import Run, run


@dataclass(frozen=True, kw_only=True)
class _Devices:
    """Devices of a training."""

    devices: int = 1
    """Processes on this machine: one for each GPU; on a CPU they share its cores. For several machines use torchrun."""
    restarts: int = 0
    """Times that all processes are restarted, from the last checkpoint, after one of them dies."""


@dataclass(frozen=True, kw_only=True)
class _Train(_Devices):
    """Train, evaluate and record a model."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run, new or empty. None: runs/<recipe>-<time> in the current folder."""
    auto_resume: bool = False
    """Continue the run in the folder if it has the same settings, else start one: for clusters that repeat the command
    after a pre-emption."""


@dataclass(frozen=True, kw_only=True)
class _Resume(_Devices):
    """Continue a run that was interrupted, with its own settings."""

    resume: Path
    """Folder of the run."""


def train(arguments: list[str]) -> int:
    """``nuat train [RECIPE] [--any.field VALUE]`` or ``nuat train --resume RUN``; --model is short for --model.name."""
    arguments = [re.sub(r"^--model(?==|$)", "--model.name", word) for word in arguments]
    resume = any(word == "--resume" or word.startswith("--resume=") for word in arguments)
    again = False
    asked: _Devices
    if resume:
        _check_resume(arguments)
        asked = parse(_Resume, arguments, prog="nuat train")
        folder = RunFolder(asked.resume)
        recipe, config = read_config(folder.config, RECIPES)
    else:
        named = bool(arguments) and not arguments[0].startswith("-")
        recipe = arguments[0] if named else DEFAULT
        new = parse(_Train, arguments[named:], prog=f"nuat train {recipe}", default=_Train(config=find(recipe)()))
        asked, folder, config, again = new, RunFolder(new.out or _new_folder(recipe)), new.config, new.auto_resume
        if again and new.out is None:
            raise InputError("--auto-resume needs the run's folder; give --out.")
    jobs(config.evaluation.attacks, nn.Identity(), config.threat)  # refuses an attack that cannot run before hours pass
    if (asked.devices, asked.restarts) != (1, 0):
        launch.check(asked.devices, asked.restarts, config.device)
    if asked.devices > 1:
        data.check_shares(config.batch_size, config.batch_size, asked.devices, 1)
        if not resume and not again:
            folder.check_new()
        where = [] if resume else ["--out", str(folder.path)]
        rest = without(arguments, "devices", "restarts", "out")
        return launch.launch(["train", *rest, *where], asked.devices, asked.restarts)
    with joined(config.device) as world:
        folder = RunFolder(Path(world.agree(str(folder.path))))
        again = again or restarted()
        if again and world.leads:
            folder.clear_start(config)
        resume = world.agree(resume or (again and folder.checkpoint.is_file()))
        console = terminal(quiet=not world.leads)
        reporter = TerminalReporter(console)
        device = hardware.resolve(config.device, world.gpu)
        if device.type == "cpu":
            _choose_threads(environment.threads_of(folder.environment) if resume else None, reporter)
        on = hardware.describe(device) + (f", {world.size} processes" if world.size > 1 else "")
        reporter.message(f"{recipe}: {config.epochs} epochs on {on}; writing to {folder.path}")
        try:
            finished = run(config, out=folder.path, recipe=recipe, resume=resume, reporter=reporter, world=world)
        except RunStopped as stopped:
            left = f" The last checkpoint is kept in {folder.path}." if folder.checkpoint.is_file() else ""
            raise InputError(f"the run was ended: {stopped}{left}") from None
        _evaluate(finished, config, console, world)
    return 0


def _choose_threads(recorded: int | None, reporter: TerminalReporter) -> None:
    """Compute with as many threads as a resumed run began with, or as there are free cores."""
    usual = torch.get_num_threads()
    chosen = threads_for_training(usual, recorded)
    torch.set_num_threads(chosen)
    if recorded is None and chosen < usual:
        reporter.message(
            f"other processes keep the processor busy: computing with {chosen} of {usual} threads. Another number "
            "gives other weights in the last digits; OMP_NUM_THREADS sets it."
        )


def _check_resume(arguments: list[str]) -> None:
    """Refuse settings and recipes beside --resume, which would have no effect."""
    known = {"--resume", *(f"--{field.name}" for field in dataclasses.fields(_Devices)), "--help"}
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    odd = [option for option in options if option not in known]
    if odd or not arguments[0].startswith("-"):
        raise InputError(
            f"{(odd or arguments)[0]}: a resumed run keeps its own settings; leave it out, or start a new run without "
            "--resume."
        )


def _evaluate(finished: Run, config: TrainConfig, console: Console, world: World) -> None:
    """Evaluate a finished run and draw its figures; of several processes, the first one prints and writes."""
    folder, reporter, summary = RunFolder(finished.folder), TerminalReporter(console), finished.summary
    reporter.message(
        f"trained in {summary['seconds']:.1f} s ({summary['forwards']:,} images forward, {summary['backwards']:,} "
        f"backward); best epoch {summary['best_epoch']} of {summary['epochs']}"
    )
    dataset = data.load(config.data)
    if config.evaluation.n is not None and config.evaluation.n > len(dataset.test):
        reporter.message(f"evaluating all {len(dataset.test)} test images; evaluation.n asks for more")
    world.wait()  # the first process has written the weights
    with folder.locked() if world.leads else contextlib.nullcontext():
        _attack(folder, dataset, config, console, world)


def _attack(folder: RunFolder, dataset: Dataset, config: TrainConfig, console: Console, world: World) -> None:
    """Attack the best weights; save and print the results, and picture the run."""
    reporter = TerminalReporter(console)
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
        world=world,
    )
    if not world.leads:
        return
    found.save(folder.evaluation)
    console.print(evaluation_table(found))
    training_curves.save(folder.read_metrics(), folder.curves)
    model = checkpoints.load(folder.best, device=hardware.resolve(config.device, world.gpu))
    adversarial_examples.save(model, dataset.test, dataset.classes, config.threat, folder.examples)
    reporter.message(f"weights: {folder.best}")
    reporter.message(f"picture: {folder.examples}")
    reporter.message(f"record:  {folder.path}")
    reporter.message(
        f"next:    nuat evaluate {shlex.quote(str(folder.path))} --attacks clean,pgd-100,gama-100,autoattack --n 200"
    )


def _new_folder(recipe: str) -> Path:
    """Return a folder under runs/ that does not exist."""
    stem = Path("runs") / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}-{count}")
    return path
