"""``nuat evaluate``: attack a run, a weights file, or a stranger's model."""

import hashlib
import signal
import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import nn

from nuat import data, hardware
from nuat.attacks.catalogue import CATALOGUE, SUITES, attack_name, defined, jobs
from nuat.commands.subject import Subject, check_fits, check_target, find_subject, settle_threat
from nuat.config import DataConfig, ThreatConfig
from nuat.config.arguments import parse, without
from nuat.distributed import launch
from nuat.distributed.world import ALONE, World, joined
from nuat.errors import InputError
from nuat.evaluation.evaluate import evaluate as evaluate_model
from nuat.evaluation.inspection import inspect
from nuat.evaluation.results import Evaluation
from nuat.models import external
from nuat.progress import TerminalReporter, progress_bars, terminal
from nuat.records import checkpoints
from nuat.report.tables import evaluation_table
from nuat.training.signals import Interrupted

_AUTOATTACK = {"full": "autoattack", "fast": "autoattack-fast", "alone": "autoattack-alone"}


_ATTACKS_HELP = f"Attacks instead of a suite, separated by commas: {', '.join(CATALOGUE)}."


def _suites_help() -> str:
    """Return the help text of ``--suite``."""
    told = [f"{suite}: {', '.join(map(attack_name, names))}." for suite, names in SUITES.items() if suite != "full"]
    return f"{' '.join(told)} full: one of every kind. Attacks that are not defined for the norm are left out."


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Attack a model on test images; print a table and write it as JSON."""

    model: tyro.conf.Positional[str]
    """Folder of a run (its best weights are taken), a .safetensors file, or file.py:function, a function of yours that
    returns a torch.nn.Module from images in [0, 1] to logits. Naming it runs the file."""
    suite: Annotated[Literal["quick", "paper", "standard", "full"], tyro.conf.arg(help=_suites_help())] = "quick"
    """Attacks by the name of a suite."""
    aa: Literal["full", "fast", "alone"] = "full"
    """AutoAttack v2 on the images that the attacks before it left standing; fast: only its first two attacks, APGD-CE
    and APGD-T, an upper bound that is labelled so; alone: on all images, as if there were no other attack."""
    attacks: Annotated[tuple[str, ...], tyro.conf.arg(help=_ATTACKS_HELP)] = ()
    """Attacks instead of a suite."""
    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    json: Path | None = None
    """File of the results; none: evaluation-<time>.json beside the weights, or in the current folder."""
    seed: int = 0
    """Seed of the random starts."""
    batch_size: int = 250
    """Images attacked at once."""
    resume: bool = True
    """Go on with what an evaluation of the same model and settings had finished when it was cut off."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    devices: int = 1
    """Processes on this machine that share the images, one a GPU; the verdicts are those of one."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set; by default the one that the model was trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images; by default those that the run used."""

    @property
    def line_up(self) -> tuple[str, ...]:
        """The attacks that are run."""
        chosen = self.attacks or defined(SUITES[self.suite], self.threat.norm)
        return tuple(_AUTOATTACK[self.aa] if name == "autoattack" else name for name in chosen)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The attacks of the suite that the norm does not have."""
        suite = () if self.attacks else SUITES[self.suite]
        there = defined(suite, self.threat.norm)
        return tuple(name for name in suite if name not in there)


def evaluate(arguments: list[str]) -> int:
    """``nuat evaluate RUN|WEIGHTS|FILE.py:FUNCTION [--suite ...|--attacks ...] [--n ...] [--json FILE]``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parse(Evaluate, ["--help"], prog="nuat evaluate")
    if arguments[0].startswith("-"):
        raise InputError("say first what to evaluate: nuat evaluate RUN|WEIGHTS|FILE.py:FUNCTION --attacks ....")
    subject = find_subject(arguments)
    default = Evaluate(model=arguments[0], threat=subject.threat, data=subject.data)
    asked = parse(Evaluate, arguments, prog="nuat evaluate", default=default)
    if asked.attacks and any(word.startswith("--suite") for word in arguments):
        raise InputError("--suite has no effect beside --attacks; give one of them.")
    if asked.aa != "full" and _AUTOATTACK[asked.aa] not in asked.line_up:
        raise InputError(f"--aa {asked.aa} has no effect without AutoAttack; give --suite standard, paper or full.")
    asked = replace(asked, threat=settle_threat(asked.threat, subject.threat, arguments))
    jobs(asked.line_up, nn.Identity(), asked.threat)  # an attack that cannot run is said before anything is loaded
    target = asked.json or subject.folder / f"evaluation-{datetime.now():%Y%m%d-%H%M%S}.json"
    check_target(target)
    if asked.devices != 1:
        launch.check(asked.devices, 0, asked.device)
        data.load(asked.data, needs_train=False)  # what is wrong with it is said once
        rest = without(arguments, "devices", "json")
        return launch.launch(["evaluate", *rest, "--json", str(target)], asked.devices, 0)
    with joined(asked.device) as world:
        with world.first_of_machine():
            dataset = data.load(asked.data, needs_train=False)
        if asked.n is not None and asked.n == Evaluate.n:  # a number that the user did not choose is a cap, no demand
            asked = replace(asked, n=min(asked.n, len(dataset.test)))
        _evaluate(asked, subject, dataset, Path(world.agree(str(target))), world)
    return 0


def _evaluate(asked: Evaluate, subject: Subject, dataset: data.Dataset, target: Path, world: World) -> None:
    """Evaluate, print and write; of several processes the first one speaks."""
    console = terminal(quiet=not world.leads)
    reporter = TerminalReporter(console)
    # a name for these settings, so that two evaluations of one file do not take each other's place
    settings = repr((asked.n, asked.seed, asked.batch_size, asked.threat, asked.data, subject.code)).encode()
    digits = hashlib.sha256(settings).hexdigest()[:8]
    state = subject.folder / f"{subject.stem}.evaluation-{digits}.partial.json"
    if not asked.resume and world.leads:
        state.unlink(missing_ok=True)
    if asked.left_out:
        reporter.message(f"not defined for {asked.threat.norm}, so left out: {', '.join(asked.left_out)}")
    again = "the same command" if asked.resume else "the same command, but --resume true"
    if subject.weights is None:
        model = external.load(asked.model, hardware.resolve(asked.device, world.gpu))
        for warning in inspect(model, dataset.test):
            reporter.message(f"warning: {warning}", style="bold yellow")
        found = attack_model(model, dataset, asked, state, reporter, again=again, world=world)
    else:
        found = attack_weights(subject.weights, dataset, asked, state, reporter, again=again, world=world)
    if world.leads:
        console.print(evaluation_table(found))
        console.print(f"written to {_save(found, target)}")


def _save(found: Evaluation, target: Path) -> Path:
    """Write what hours may have found, somewhere else where ``target`` fails; return where."""
    try:
        found.save(target)
    except OSError as error:
        rescued = Path(tempfile.gettempdir()) / f"evaluation-{datetime.now():%Y%m%d-%H%M%S}.json"
        found.save(rescued)
        raise InputError(f"--json {target}: could not be written ({error}); the results are in {rescued}.") from None
    return target


def attack_weights(
    weights: Path,
    dataset: data.Dataset,
    asked: Evaluate,
    state: Path,
    reporter: TerminalReporter,
    *,
    again: str,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate a weights file on the test images, with progress; ``again`` is what goes on after an interruption."""
    check_fits(weights, dataset)
    model = checkpoints.load(weights, device=hardware.resolve(asked.device, world.gpu))
    return attack_model(model, dataset, asked, state, reporter, again=again, world=world)


def attack_model(
    model: nn.Module,
    dataset: data.Dataset,
    asked: Evaluate,
    state: Path,
    reporter: TerminalReporter,
    *,
    again: str,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate a model on the test images, with progress; ``again`` is what goes on after an interruption."""
    # the same function, a sixth faster on the CPU (mnist-cnn, forward and backward, one thread)
    model.to(memory_format=torch.channels_last)
    eps, alpha = asked.threat.eps, asked.threat.pgd_alpha
    for name in asked.line_up:
        if name.startswith("pgd-") and name[4:].isdigit() and int(name[4:]) * alpha < eps:
            reporter.message(
                f"warning: {name} moves at most {int(name[4:]) * alpha:.3g} from its start, less than eps {eps:.3g}; "
                "give more steps or a larger --pgd-alpha.",
                style="bold yellow",
            )
    try:
        with progress_bars(reporter) as progress:
            return evaluate_model(
                model,
                dataset.test,
                asked.line_up,
                threat=asked.threat,
                n=asked.n,
                seed=asked.seed,
                batch_size=asked.batch_size,
                state_path=state,
                progress=progress,
                world=world,
            )
    except KeyboardInterrupt:
        raise Interrupted(
            signal.SIGINT, f"stopped; what is finished is kept in {state}. Continue with: {again}"
        ) from None
