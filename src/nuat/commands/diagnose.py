"""``nuat diagnose``."""

import json as jsonlib
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import nn

from nuat import data, hardware
from nuat.commands.subject import check_fits, check_target, find_subject, settle_threat
from nuat.config import DataConfig, ThreatConfig
from nuat.config.arguments import parse
from nuat.diagnostics import Status, Surrogate, examine
from nuat.errors import InputError
from nuat.evaluation.inspection import inspect
from nuat.files import write_text
from nuat.models import external
from nuat.progress import TerminalReporter, progress_bars, terminal
from nuat.records import checkpoints
from nuat.report.tables import verdict_table
from nuat.training.signals import Interrupted

_STATES = "diagnose-*.partial.json"


@dataclass(frozen=True, kw_only=True)
class _Diagnose:
    """Examine whether a model's robustness is to be believed: gradient masking and weak attacks, as verdicts."""

    model: tyro.conf.Positional[str]
    """Folder of a run, a .safetensors file, or file.py:function, as for nuat evaluate."""
    n: int | None = 300
    """Test images, class-balanced; none: all. With fewer than some 300 checks stay inconclusive."""
    json: Path | None = None
    """File of the verdicts; none: diagnosis.json beside the weights, or in the current folder."""
    surrogate: str | None = None
    """Another model for the same images, named as the first, whose adversarial examples are tried on this one; none: a
    small network that is trained on at most 51,200 answers of this one to training images, moved within the ball."""
    seed: int = 0
    """Seed of the random starts, and of that network."""
    batch_size: int = 250
    """Images attacked at once."""
    resume: bool = True
    """Go on with what an examination of the same model and settings had finished when it was cut off; false: afresh."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set; by default the one that the model was trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images; by default those that the run used."""


def diagnose(arguments: list[str]) -> int:
    """``nuat diagnose MODEL [--surrogate MODEL] [--n ...] [--json FILE]``; exit code 0 when nothing fails."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parse(_Diagnose, ["--help"], prog="nuat diagnose")
    if arguments[0].startswith("-"):
        raise InputError("say first what to examine: nuat diagnose RUN|WEIGHTS|FILE.py:FUNCTION.")
    subject = find_subject(arguments)
    default = _Diagnose(model=arguments[0], threat=subject.threat, data=subject.data)
    asked = parse(_Diagnose, arguments, prog="nuat diagnose", default=default)
    asked = replace(asked, threat=settle_threat(asked.threat, subject.threat, arguments))
    target = asked.json or subject.folder / "diagnosis.json"
    check_target(target)
    dataset = data.load(asked.data)
    n = asked.n if asked.n is None or asked.n != _Diagnose.n else min(asked.n, len(dataset.test))
    console = terminal()
    reporter = TerminalReporter(console)
    device = hardware.resolve(asked.device)
    model = _load(asked.model, dataset, device)
    surrogate = None if asked.surrogate is None else Surrogate(_load(asked.surrogate, dataset, device), asked.surrogate)
    for warning in inspect(model, dataset.test):
        reporter.message(f"warning: {warning}", style="bold yellow")
    if not asked.resume:
        for state in subject.folder.glob(_STATES):
            state.unlink(missing_ok=True)
    try:
        with progress_bars(reporter) as progress:
            found = examine(
                model,
                dataset.test,
                threat=asked.threat,
                n=n,
                seed=asked.seed,
                batch_size=asked.batch_size,
                training=dataset.train,
                surrogate=surrogate,
                state_folder=subject.folder,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise _interrupted(subject.folder, asked.resume) from None
    write_text(target, jsonlib.dumps(found.to_json(), indent=1) + "\n")
    console.print(verdict_table(found.verdicts))
    for line in found.left_out:
        reporter.message(f"left out: {line}")
    counts = [f"{sum(v.status is s for v in found.verdicts)} {s.value}" for s in Status]
    console.print(f"{', '.join(counts)}; written to {target}")
    return 1 if found.failed else 0


def _interrupted(folder: Path, resume: bool) -> Interrupted:
    """Return what says where the attack under way has left what it finished."""
    kept = sorted(folder.glob(_STATES))
    finished = (
        f"what the attack under way has finished is kept in {', '.join(map(str, kept))}" if kept else "nothing is kept"
    )
    again = "the same command" if resume else "the same command, but --resume true"
    return Interrupted(signal.SIGINT, f"stopped; {finished}. Continue with: {again}")


def _load(named: str, dataset: data.Dataset, device: torch.device) -> nn.Module:
    """Return the model that a user names, if it is one for these images."""
    if external.names_function(named):
        return external.load(named, device)
    weights = checkpoints.weights_file(Path(named))
    check_fits(weights, dataset)
    return checkpoints.load(weights, device=device)
