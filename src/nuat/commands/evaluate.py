"""``nuat evaluate``: attack a run or anybody's model."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import nn

from nuat import data, hardware, own_code
from nuat.attacks.catalogue import CATALOGUE, QUICK, SUITES, across, attack_name, defined
from nuat.attacks.planned_jobs import jobs
from nuat.commands.corruptions import check_options, corrupt_model, corrupts
from nuat.commands.subject import (
    INHERITED,
    Subject,
    check_fits,
    check_target,
    find_subject,
    load_model,
    own_ball,
    result_file,
    save_results,
    settle_threat,
    with_values,
)
from nuat.commands.surrogate import surrogate_of
from nuat.config import DataConfig, ForeignNetwork, ThreatConfig
from nuat.config.arguments import HELP, parse, without
from nuat.core.threat import Norm
from nuat.distributed import launch
from nuat.distributed.world import ALONE, World, joined
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CORRUPTION_KEYS, CorruptionResults
from nuat.evaluation.evaluate import evaluate as evaluate_model
from nuat.evaluation.per_class import per_class_table
from nuat.evaluation.results import EVALUATION_KEYS, Evaluation
from nuat.evaluation.search_precision import SearchPrecision, settled
from nuat.files import writable
from nuat.progress import TerminalReporter, progress_bars, terminal
from nuat.records import checkpoints
from nuat.training.signals import resumable

_AUTOATTACK = {"full": "autoattack", "fast": "autoattack-fast", "alone": "autoattack-alone", "quick": QUICK}
_EVERYDAY = (
    *("--model", "--mean", "--std", "--suite", "--attacks", "--aa", "--n", "--eps", "--norm"),
    *("--json", "--class-map", "--black-box", "--surrogate", "--data.path", "--data.name"),
    *("--batch-size", "--seed", "--device", "--devices"),
)
"""Options that ``--help`` shows."""

_ATTACKS_HELP = (
    f"Attacks instead of a suite, separated by commas: {', '.join(CATALOGUE)}; FILE.py:NAME is one of your own. "
    "Empty: those of the suite."
)


def _suites_help() -> str:
    """Return the help text of ``--suite``."""
    told = [f"{suite}: {', '.join(map(attack_name, names))}." for suite, names in SUITES.items() if suite != "full"]
    return (
        f"{' '.join(told)} full: every kind but CR and transfer. Attacks not defined for the norm are left out. "
        "corruptions: no attack, but 15 common corruptions at 5 severities; needs pip install 'nuat[corruptions]' or "
        "--corruptions."
    )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Attack a model on test images, or corrupt these; print a table and write it as JSON."""

    model: tyro.conf.Positional[str]
    """Folder of a run (its best weights are taken), or anybody's model: a file of weights with --model NAME,
    timm:NAME, torchvision:NAME, a Hugging Face folder, an ONNX file, or file.py:function, a function that returns a
    torch.nn.Module from images in [0, 1] to logits. Naming a function runs its file."""
    suite: Annotated[
        Literal["quick", "paper", "standard", "full", "corruptions"], tyro.conf.arg(help=_suites_help())
    ] = "quick"
    """Attacks by the name of a suite."""
    corruptions: Path | None = None
    """Folder of the test images, corrupted: the .npy files of CIFAR-10-C or CIFAR-100-C, or the folders of ImageNet-C.
    None: --suite corruptions makes them."""
    aa: Literal["full", "fast", "alone", "quick"] = "full"
    """full: AutoAttack v2 on the images that the attacks before it left standing. fast: its first two attacks, APGD-CE
    and APGD-T, for an upper bound. quick: CR and Square, for an upper bound with fewer passes; AutoAttack follows
    by itself where gradients seem to mislead. alone: on all images, as if there were no other attack."""
    attacks: Annotated[tuple[str, ...], tyro.conf.arg(help=_ATTACKS_HELP)] = ()
    """Attacks instead of a suite."""
    n: int | None = 1000
    """Test images, class-balanced. None: all."""
    json: Path | None = None
    """File of the results; only a file of such results is replaced. None: evaluation-<time>.json (of the corruptions,
    corruptions-<time>.json) in the folder of the run, or in the current folder."""
    network: Annotated[ForeignNetwork, tyro.conf.arg(name="")] = field(default_factory=ForeignNetwork)
    """Network and normalisation of a model that nuat did not train."""
    class_map: tuple[str, ...] = ()
    """Order of the classes of the model, if it differs from the images': the logit of each class of the images, such as
    0,2,1; or the names of the classes in the order of the logits; or a file of these names, one a line. Empty: the
    images', or as the names say."""
    black_box: bool = False
    """For a model without a gradient: run only Square, transfer, and the attacks asked for that need no gradient."""
    surrogate: str | None = None
    """Model whose examples transfer uses, named like the first. None: a small network that is trained on the answers of
    the model."""
    per_class: bool = False
    """Print the worst case of each class as well; of more than ten classes the worst ten. The JSON has all."""
    seed: int = 0
    """Seed of the random starts."""
    batch_size: int | None = None
    """Images attacked at once. None: 250; on a CUDA GPU what suits its memory."""
    search_precision: SearchPrecision = "auto"
    """Arithmetic in which attacks search; every success is confirmed in fp32. auto: tf32 on a CUDA GPU, fp32 elsewhere.
    bf16 is faster on a GPU, and on a processor that multiplies bf16."""
    compile: bool = False
    """Search on a copy that torch.compile has compiled, if it answers as the eager one does. Compiling takes minutes.
    Meant for GPUs, where CUDA graphs replay it; not yet measured on one. Only some networks of nuat have a copy."""
    resume: bool = True
    """Resume an interrupted evaluation of the same model with the same settings. false: start afresh."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    devices: int = 1
    """Processes on this machine that share the images, one a GPU; the verdicts are those of one process."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set. Default: the one that the model was trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images. Default: those of the run."""

    @property
    def line_up(self) -> tuple[str, ...]:
        """Attacks to run."""
        chosen = self.attacks or SUITES.get(self.suite, ("clean",))
        names = tuple(_AUTOATTACK[self.aa] if name == "autoattack" else name for name in chosen)
        return across(names, self._norms) if self.attacks else defined(names, self._norms)

    @property
    def _norms(self) -> tuple[Norm, ...]:
        return tuple(one.norm for one in self.threat.parts)

    @property
    def transfers(self) -> bool:
        """Whether transfer is among the attacks, or may be added."""
        return self.black_box or "transfer" in self.line_up

    @property
    def kind(self) -> str:
        """Beginning of the name of the file of the results."""
        return "corruptions" if self.suite == "corruptions" else "evaluation"

    @property
    def keys(self) -> frozenset[str]:
        """Entries of the file of the results."""
        return CORRUPTION_KEYS if self.suite == "corruptions" else EVALUATION_KEYS

    @property
    def left_out(self) -> tuple[str, ...]:
        """Attacks of the suite that are not defined for the norm."""
        suite = () if self.attacks else SUITES.get(self.suite, ())
        there = defined(suite, self._norms)
        return tuple(name for name in across(suite, self._norms) if name not in there)


def evaluate(arguments: list[str]) -> int:
    """``nuat evaluate RUN|WEIGHTS|FILE.py:FUNCTION [--model NAME] [--suite ...|--attacks ...] [--json FILE]``."""
    if not arguments or arguments[0] in HELP:
        parse(Evaluate, arguments[:1] or ["--help"], prog="nuat evaluate", everyday=_EVERYDAY, inherited=INHERITED)
    if arguments[0].startswith("-"):
        raise InputError("say first what to evaluate: nuat evaluate RUN|WEIGHTS|FILE.py:FUNCTION --attacks ....")
    corrupting = corrupts(arguments)
    subject = find_subject(arguments, attacked=not corrupting)
    default = Evaluate(model=arguments[0], threat=own_ball(subject.threat, arguments), data=subject.data)
    words = with_values(arguments, "--black-box", "--per-class", "--compile")
    asked = parse(Evaluate, words, prog="nuat evaluate", default=default, everyday=_EVERYDAY)
    check_options(arguments, asked.corruptions)
    if not subject.gradients and not asked.attacks and not corrupting:
        asked = replace(asked, black_box=True)
    if asked.attacks and any(word.startswith("--suite") for word in arguments):
        raise InputError("--suite has no effect together with --attacks; leave one out.")
    if asked.aa != "full" and _AUTOATTACK[asked.aa] not in asked.line_up:
        raise InputError(f"--aa {asked.aa} has no effect without AutoAttack; give --suite standard, paper or full.")
    if asked.surrogate is not None and not asked.transfers:
        raise InputError("--surrogate has no effect without transfer; give --black-box or --attacks transfer,....")
    if asked.compile and set(asked.line_up) == {"clean"} and not corrupting:
        raise InputError("--compile has no effect without an attack that searches; leave it out.")
    settled(asked.search_precision, hardware.resolve(asked.device))
    asked = replace(asked, threat=settle_threat(asked.threat, subject.threat, arguments))
    asked = replace(asked, attacks=tuple(map(own_code.pin, asked.attacks)))
    # an attack that cannot run is reported before anything is loaded
    jobs(asked.line_up, nn.Identity(), asked.threat, surrogate=nn.Identity())
    target = result_file(asked.json, subject.folder, f"{asked.kind}-{datetime.now():%Y%m%d-%H%M%S}.json")
    if target is not None:
        check_target(target, asked.keys)
    if asked.devices != 1:
        launch.check(asked.devices, 0, asked.device)
        data.load(asked.data, needs_train=False)  # what is wrong with it is reported once
        rest = without(arguments, "devices", "json")
        named = [] if target is None else ["--json", str(target)]
        return launch.launch(["evaluate", *rest, *named], asked.devices, 0)
    with joined(asked.device) as world:
        with world.first_of_machine():
            dataset = data.load(asked.data, needs_train=False)
        if asked.n is not None and asked.n == Evaluate.n:  # the default number is a cap, no demand
            asked = replace(asked, n=min(asked.n, len(dataset.test)))
        _evaluate(asked, subject, dataset, target if target is None else Path(world.agree(str(target))), world)
    return 0


def _evaluate(asked: Evaluate, subject: Subject, dataset: data.Dataset, target: Path | None, world: World) -> None:
    """Evaluate, print and write; of several processes the first one prints and writes."""
    console = terminal(quiet=not world.leads)
    reporter = TerminalReporter(console)
    state = _state_file(asked, subject)
    if state is None:
        reporter.message(f"{subject.folder} cannot be written: an evaluation that is interrupted starts afresh")
    elif not asked.resume and world.leads:
        state.unlink(missing_ok=True)
    if asked.left_out:
        norm = asked.threat.norm if asked.threat.also is None else "its norm"
        reporter.message(f"not defined for {norm}, so left out: {', '.join(asked.left_out)}")
    device = hardware.resolve(asked.device, world.gpu)
    loaded = load_model(asked.model, dataset, device, network=asked.network, class_map=asked.class_map)
    surrogate = None
    if asked.transfers:
        surrogate = surrogate_of(
            loaded, dataset, device, named=asked.surrogate, threat=asked.threat, seed=asked.seed, reporter=reporter
        )
    for note in loaded.notes:
        reporter.message(note)
    if asked.json is not None and world.leads:
        asked.json.parent.mkdir(parents=True, exist_ok=True)  # now: not if it is removed meanwhile
    again = "the same command" if asked.resume else "the same command, but --resume true"
    if asked.suite == "corruptions":
        found: Evaluation | CorruptionResults = corrupt_model(
            loaded.model, dataset, asked, state, reporter, again=again, order=loaded.order, world=world
        )
    else:
        found = attack_model(
            loaded.model,
            dataset,
            asked,
            state,
            reporter,
            again=again,
            order=loaded.order,
            surrogate=surrogate,
            inspected=False,
            world=world,
        )
    if not world.leads:
        return
    console.print(found.table())
    if isinstance(found, Evaluation) and asked.per_class:
        console.print(per_class_table(found))
    if target is None:
        reporter.message("nothing is written: neither folder can be written; give --json FILE to keep the results")
    else:
        reporter.message(f"written to {save_results(found.save, target, asked.keys)}")


def _state_file(asked: Evaluate, subject: Subject) -> Path | None:
    """Return the file of finished batches, one for each model and settings. None: its folder cannot be written."""
    if not writable(subject.folder):
        return None
    settings = (asked.n, asked.seed, asked.batch_size, asked.search_precision, asked.threat, asked.data, subject.code)
    places = (one for one in (asked.corruptions, asked.compile or None) if one is not None)
    digits = hashlib.sha256(repr((*settings, *places)).encode()).hexdigest()[:8]
    return subject.folder / f"{subject.stem}.{asked.kind}-{digits}.partial.json"


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
    """Evaluate weights that this process has trained, see ``attack_model``."""
    check_fits(weights, dataset)
    model = checkpoints.load(weights, device=hardware.resolve(asked.device, world.gpu))
    return attack_model(model, dataset, asked, state, reporter, again=again, world=world)


def attack_model(
    model: nn.Module,
    dataset: data.Dataset,
    asked: Evaluate,
    state: Path | None,
    reporter: TerminalReporter,
    *,
    again: str,
    order: tuple[int, ...] | None = None,
    surrogate: nn.Module | None = None,
    inspected: bool = True,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate a model on the test images, with progress.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        dataset: images; its test part is attacked.
        asked: settings.
        state: file of finished batches. None: an interruption loses them.
        reporter: terminal.
        again: command that resumes after an interruption.
        order: the logit of each class of the images, see ``nuat.evaluate``.
        surrogate: model that transfer follows.
        inspected: whether the model is known to be sound, see ``nuat.evaluate``.
        world: processes that share the batches.
    """
    # the same function, a sixth faster on the CPU (mnist-cnn, forward and backward, one thread)
    model.to(memory_format=torch.channels_last)
    eps, alpha = asked.threat.eps, asked.threat.pgd_alpha
    for name in asked.line_up:
        if name.startswith("pgd-") and name[4:].isdigit() and int(name[4:]) * alpha < eps:
            reporter.message(
                f"warning: {name} moves at most {int(name[4:]) * alpha:.3g} from its start, less than eps {eps:.3g}; "
                "give more steps or larger ones (pgd-alpha).",
                style="bold yellow",
            )
    with resumable(state, again), progress_bars(reporter) as progress:
        return evaluate_model(
            model,
            dataset.test,
            asked.line_up,
            threat=asked.threat,
            n=asked.n,
            seed=asked.seed,
            batch_size=asked.batch_size,
            class_map=order,
            classes=dataset.classes,
            black_box=asked.black_box,
            surrogate=surrogate,
            inspected=inspected,
            search_precision=asked.search_precision,
            compile=asked.compile,
            warn=lambda warning: reporter.message(f"warning: {warning}", style="bold yellow"),
            state_path=state,
            progress=progress,
            world=world,
        )
