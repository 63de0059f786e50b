"""``nuat train``."""

import contextlib
import json
import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import nn

from nuat import data, defenses, hardware, own_code
from nuat.attacks.catalogue import WORST_CASE
from nuat.attacks.planned_jobs import jobs
from nuat.commands.evaluate import Evaluate, attack_weights
from nuat.config import TrainConfig
from nuat.config.arguments import as_word, parse, without
from nuat.config.other_ball import in_asked_ball
from nuat.data import Dataset
from nuat.defenses import Defense
from nuat.distributed import launch
from nuat.distributed.threads import threads_for_training
from nuat.distributed.world import World, joined, restarted
from nuat.errors import InputError
from nuat.evaluation.result_table import evaluation_table
from nuat.evaluation.results import Evaluation
from nuat.figures import adversarial_examples, training_curves
from nuat.models import has_variant
from nuat.progress import TerminalReporter, terminal
from nuat.recipes import DEFAULT, find, with_pinned_names
from nuat.records import checkpoints, environment
from nuat.records.folder import RunFolder
from nuat.records.settings import flat_items, keep_code, read_config, to_json
from nuat.training.hosted_trackers import named_trackers
from nuat.training.monitors import RunStopped
from nuat.training.run import Run, run
from nuat.training.trackers import Tracking
from nuat.training.validation import check_attack

_SHORT = {
    "--lr": "--optimizer.lr.peak",
    "--eps": "--threat.eps",
    "--lam": "--defense.lam.peak",
    "--model": "--model.name",
}
"""Short names of options."""
_EVERYDAY = (
    *("--out", "--epochs", "--batch-size", "--optimizer.lr.peak", "--threat.eps", "--defense.lam.peak"),
    *("--data.path", "--data.name", "--data.image-size", "--data.validation", "--model.name", "--model.weights"),
    *("--averaging.tau", "--evaluation.attacks", "--evaluation.n"),
    *("--seed", "--device", "--devices", "--precision", "--track"),
)
"""Options that ``--help`` shows."""


@dataclass(frozen=True, kw_only=True)
class _Around:
    """Devices and trackers of a training, which a resumed run may change."""

    devices: int = 1
    """Processes on this machine: one for each GPU; on a CPU they share its cores. For several machines use torchrun."""
    restarts: int = 0
    """Times that all processes are restarted, from the last checkpoint, after one of them dies."""
    track: tuple[str, ...] = ("tensorboard",)
    """Trackers that follow the run: tensorboard (events in its folder), wandb, mlflow, or several, separated by commas.
    none: no tracker."""


@dataclass(frozen=True, kw_only=True)
class _Train(_Around):
    """Train, evaluate and record a model.

    'nuat train --resume RUN' continues an interrupted run. '--defense NAME' takes another defense; settings that both
    have stay. '--config FILE' takes settings from a TOML or JSON file, or from a run's config.json. A recipe or a
    defense of your own is FILE.py:NAME; 'nuat new defense NAME' writes one.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the run, new or empty. None: runs/<recipe>-<time> in the current folder."""
    auto_resume: bool = False
    """Continue the run in the folder if it has the same settings, else start one: for clusters that repeat the command
    after a pre-emption."""


@dataclass(frozen=True, kw_only=True)
class _Resume(_Around):
    """Continue a run that was interrupted, with its own settings."""

    resume: Path
    """Folder of the run."""


def train(arguments: list[str]) -> int:
    """``nuat train [RECIPE] [--config FILE] [--any.field VALUE]`` or ``nuat train --resume RUN``."""
    resume = any(word == "--resume" or word.startswith("--resume=") for word in arguments)
    again = False
    asked: _Around
    if resume:
        _check_resume(arguments)
        asked = parse(_Resume, arguments, prog="nuat train")
        folder = RunFolder(asked.resume)
        recipe, config = read_config(folder.config)
        if own_code.given():
            keep_code(folder.config, config, recipe)
    else:
        recipe, new = _new(arguments)
        asked, folder, config, again = new, RunFolder(new.out or _new_folder(recipe)), new.config, new.auto_resume
        if again and new.out is None:
            raise InputError("--auto-resume needs the run's folder; give --out.")
    trackers = named_trackers(asked.track)
    jobs(config.evaluation.attacks, nn.Identity(), config.threat)  # refuses an attack that cannot run before hours pass
    check_attack(config.validate_attack, config.threat)
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
        reporter.message(f"{recipe}: {config.epochs} epoch{'s' * (config.epochs != 1)} on {on}")
        with Tracking(trackers, reporter, world) as tracking:
            try:
                finished = run(
                    config,
                    out=folder.path,
                    recipe=recipe,
                    resume=resume,
                    reporter=reporter,
                    trackers=tracking,
                    world=world,
                )
            except RunStopped as stopped:
                left = f" The last checkpoint is kept in {folder.path}." if folder.checkpoint.is_file() else ""
                raise InputError(f"the run was ended: {stopped}{left}") from None
            found = _evaluate(finished, config, console, world)
            tracking.results |= {f"test/{one.name}": one.accuracy for one in found.results}
            tracking.results[f"test/{WORST_CASE}"] = found.accuracy(WORST_CASE)
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
    """Refuse settings and recipes given with --resume, since they would have no effect."""
    known = {"--resume", *(f"--{field.name}" for field in fields(_Around)), "--help", "--help-all"}
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    odd = [option for option in options if option not in known]
    if odd or not arguments[0].startswith("-"):
        raise InputError(
            f"{(odd or arguments)[0]}: a resumed run keeps its own settings; leave it out, or start a new run without "
            "--resume."
        )


def _new(arguments: list[str]) -> tuple[str, _Train]:
    """Return the recipe and the options of a new run: the recipe's, then the file's, then those that are given."""
    named = bool(arguments) and not arguments[0].startswith("-")
    recipe: str | None = arguments[0] if named else None
    words = arguments[named:]
    file, defense = _value(words, "config"), _value(words, "defense")
    from_file: Sequence[str] = ()
    if file is not None:
        recipe, config, from_file = _read_settings(Path(file), recipe)
    else:
        config = find(recipe or DEFAULT)()
    recipe = recipe or DEFAULT
    if defense is not None:
        config = replace(config, defense=_other_defense(config.defense, defense))
    options: dict[str, Any] = {"prog": f"nuat train {recipe}", "everyday": _EVERYDAY, "short": _SHORT}
    try:
        default = parse(_Train, from_file, default=_Train(config=in_asked_ball(config, from_file)), **options)
    except InputError as error:
        raise InputError(f"{file}: {error}" if from_file else str(error)) from None
    path = default.config.data.path
    if path is not None and _value(words, "data.name") is not None and _value(words, "data.path") is None:
        raise InputError(f"--data.name: has no effect on the images of data.path={path}; give --data.path none, too.")
    default = replace(default, config=in_asked_ball(default.config, words))
    asked = parse(_Train, without(words, "config", "defense"), default=default, **options)
    network = asked.config.model
    if not (has_variant(network.name) or any("--model.variant" in word for word in (*from_file, *words))):
        # the recipe's variant is of its own network; one that the user asked for is refused later
        asked = replace(asked, config=replace(asked.config, model=replace(network, variant="plain")))
    return own_code.pin(recipe), replace(asked, config=with_pinned_names(asked.config))


def _value(words: Sequence[str], option: str) -> str | None:
    """Return the value of an option, ``--name value`` or ``--name=value``. None: it is not given."""
    for i, word in enumerate(words):
        if word.startswith(f"--{option}="):
            return word.partition("=")[2]
        if word == f"--{option}":
            if i + 1 == len(words):
                raise InputError(f"--{option}: needs a value.")
            return words[i + 1]
    return None


def _read_settings(file: Path, recipe: str | None) -> tuple[str | None, TrainConfig, list[str]]:
    """Return the recipe, its settings, and the file's settings as options; of a run's config.json the first two.

    Raises:
        InputError: no such file, not TOML or JSON, or it names another recipe than the command line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        values: Any = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InputError(f"--config {file}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and TOMLDecodeError are ValueErrors
        reason = str(error) or type(error).__name__
        raise InputError(f"--config {file}: not {'TOML' if file.suffix == '.toml' else 'JSON'} ({reason}).") from None
    if not isinstance(values, dict):
        raise InputError(f'--config {file}: expected settings such as epochs = 10 or "optimizer.lr.peak" = 0.1.')
    _check_runs_nothing(file, values)
    theirs = values.pop("recipe", None)
    named = None if recipe is None else own_code.plain(own_code.pin(recipe))
    if theirs is not None and named not in (None, own_code.plain(str(theirs))):
        raise InputError(f"--config {file}: is of the recipe {theirs!r}, not {recipe!r}; leave one of them out.")
    if "config" in values:  # what a run wrote
        recipe, config = read_config(file)
        return recipe, config, []
    recipe = recipe if theirs is None else str(theirs)
    defense = values.pop("defense", None) if isinstance(values.get("defense"), str) else None
    config = find(recipe or DEFAULT)()
    if defense is not None:
        config = replace(config, defense=_other_defense(config.defense, defense))
    names = [(f"--{name.replace('_', '-')}", value) for name, value in flat_items(values)]
    return recipe, config, [f"{name}={as_word(value)}" for name, value in names]


def _other_defense(before: Defense, name: str) -> Defense:
    """Return the defense of that name, with the settings of ``before`` that both have."""
    kind = defenses.find(name)
    ours = {field.name: field.type for field in fields(before)}
    shared = [field.name for field in fields(kind) if field.init and ours.get(field.name) == field.type]
    with own_code.blamed(name):
        return kind(**{name: getattr(before, name) for name in shared})


def _check_runs_nothing(file: Path, values: Any) -> None:
    """Refuse settings that name code: a file that the user only points at runs none."""
    settings = {name: value for name, value in values.items() if name != "code"}  # that of a record holds paths
    for name, value in flat_items(settings):
        for word in ",".join(map(str, value if isinstance(value, list) else [value])).split(","):
            if own_code.is_named(word):
                raise InputError(
                    f"--config {file}: {name} names code, {word}, and a file of settings runs none. Name it on the "
                    "command line: nuat train FILE.py:RECIPE, --defense, --model or --evaluation.attacks."
                )


def _evaluate(finished: Run, config: TrainConfig, console: Console, world: World) -> Evaluation:
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
        return _attack(folder, dataset, config, console, world)


def _attack(folder: RunFolder, dataset: Dataset, config: TrainConfig, console: Console, world: World) -> Evaluation:
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
        return found
    try:
        folder.check_there()
        found.save(folder.evaluation)
    finally:
        console.print(evaluation_table(found))
    training_curves.save(folder.read_metrics(), to_json(config), folder.curves)
    model = checkpoints.load(folder.best, device=hardware.resolve(config.device, world.gpu))
    adversarial_examples.save(model, dataset.test, dataset.classes, config.threat, folder.examples)
    reporter.message(f"weights: {folder.best}")
    reporter.message(f"picture: {folder.examples}")
    reporter.message(f"record:  {folder.path}")
    run, n = shlex.quote(str(folder.path)), min(200, len(dataset.test))
    reporter.message(f"next:    nuat evaluate {run} --attacks clean,pgd-100,gama-100,autoattack --n {n}")
    return found


def _new_folder(recipe: str) -> Path:
    """Return a folder under runs/ that does not exist."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", own_code.plain(recipe))
    stem = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, count = stem, 1
    while path.exists():
        count += 1
        path = stem.with_name(f"{stem.name}-{count}")
    return path
