"""``nuat evaluate``."""

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

from nuat import checkpoints, data, evaluation, hardware
from nuat.arguments import parse
from nuat.config import DataConfig, ThreatConfig
from nuat.errors import InputError
from nuat.progress import TerminalReporter
from nuat.records import RunFolder, read_data_config
from nuat.report.tables import evaluation_table
from nuat.results import Evaluation
from nuat.signals import Interrupted


@dataclass(frozen=True, kw_only=True)
class Evaluate:
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


def evaluate(arguments: list[str]) -> int:
    """``nuat evaluate RUN|WEIGHTS [--attacks ...] [--n ...] [--json FILE]``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parse(Evaluate, ["--help"], prog="nuat evaluate")
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
    default = Evaluate(model=Path(arguments[0]), threat=info.threat, data=images)
    asked = parse(Evaluate, arguments, prog="nuat evaluate", default=default)
    target = asked.json or weights.with_name(f"evaluation-{datetime.now():%Y%m%d-%H%M%S}.json")
    _check_target(target)
    dataset = data.load(asked.data)
    if asked.n is not None and asked.n == Evaluate.n:  # a number that the user did not choose is a cap, not a demand
        asked = replace(asked, n=min(asked.n, len(dataset.test)))
    console = Console()
    # a name for these settings, so that two evaluations of one file do not take each other's place
    settings = repr((asked.n, asked.seed, asked.batch_size, asked.threat, asked.data)).encode()
    digits = hashlib.sha256(settings).hexdigest()[:8]
    state = weights.with_name(f"{weights.stem}.evaluation-{digits}.partial.json")
    again = "the same command"
    found = attack_weights(weights, dataset, asked, state, TerminalReporter(console), again=again)
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


def attack_weights(
    weights: Path, dataset: data.Dataset, asked: Evaluate, state: Path, reporter: TerminalReporter, *, again: str
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
