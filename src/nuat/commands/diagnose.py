"""``nuat diagnose``."""

import json as jsonlib
import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from nuat import data, hardware
from nuat.commands.subject import check_target, find_subject, load_model, result_file, settle_threat
from nuat.config import DataConfig, ThreatConfig
from nuat.config.arguments import parse
from nuat.diagnostics import Status, Surrogate, examine
from nuat.errors import InputError
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.inspection import inspect
from nuat.files import write_text
from nuat.progress import TerminalReporter, progress_bars, terminal
from nuat.report.tables import verdict_table
from nuat.training.signals import Interrupted

_STATES = "diagnose-*.partial.json"
_DIAGNOSIS_KEYS = frozenset({"counts", "verdicts", "evaluation"})
"""Entries by which a JSON file is known as a diagnosis."""


@dataclass(frozen=True, kw_only=True)
class _Diagnose:
    """Examine whether a model's robustness is to be believed: gradient masking and weak attacks, as verdicts."""

    model: tyro.conf.Positional[str]
    """Folder of a run, a .safetensors file, or file.py:function, as for nuat evaluate."""
    n: int | None = 300
    """Test images, class-balanced. None: all. With fewer than about 300, checks stay inconclusive."""
    json: Path | None = None
    """File of the verdicts; only a file of verdicts is replaced. None: diagnosis.json in the folder of the weights, or
    in the current folder."""
    class_map: tuple[str, ...] = ()
    """Order of the classes of the model, as for nuat evaluate."""
    surrogate: str | None = None
    """Another model for the same images, named like the first, whose adversarial examples are tried on this one.
    None: a small network that is trained on at most 51,200 answers of this one to training images and their
    neighbours."""
    seed: int = 0
    """Seed of the random starts, and of that network."""
    batch_size: int = 250
    """Images attacked at once."""
    resume: bool = True
    """Resume an interrupted examination of the same model with the same settings. false: start afresh."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set. Default: the one that the model was trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images. Default: those of the run."""


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
    target = result_file(asked.json, subject.folder, "diagnosis.json")
    if target is not None:
        check_target(target, _DIAGNOSIS_KEYS)
    dataset = data.load(asked.data, needs_train=False)
    n = asked.n if asked.n is None or asked.n != _Diagnose.n else min(asked.n, len(dataset.test))
    console = terminal()
    reporter = TerminalReporter(console)
    device = hardware.resolve(asked.device)
    loaded = load_model(asked.model, dataset, device, class_map=asked.class_map)
    surrogate = None
    if asked.surrogate is not None:
        other = load_model(asked.surrogate, dataset, device)
        surrogate = Surrogate(guarded(other.model, other.order), asked.surrogate)
    if loaded.note:
        reporter.message(loaded.note)
    for warning in inspect(loaded.model, dataset.test, order=loaded.order):
        reporter.message(f"warning: {warning}", style="bold yellow")
    states = subject.folder if os.access(subject.folder, os.W_OK) else None
    if states is None:
        reporter.message(f"{subject.folder} cannot be written: an examination that is interrupted starts afresh")
    if not asked.resume and states is not None:
        for state in subject.folder.glob(_STATES):
            state.unlink(missing_ok=True)
    try:
        with progress_bars(reporter) as progress:
            found = examine(
                loaded.model,
                dataset.test,
                threat=asked.threat,
                n=n,
                seed=asked.seed,
                batch_size=asked.batch_size,
                class_map=loaded.order,
                training=dataset.train,
                surrogate=surrogate,
                state_folder=states,
                progress=progress,
            )
    except KeyboardInterrupt:
        raise _interrupted(subject.folder, asked.resume) from None
    console.print(verdict_table(found.verdicts))
    for line in found.left_out:
        reporter.message(f"left out: {line}")
    counts = ", ".join(f"{sum(v.status is s for v in found.verdicts)} {s.value}" for s in Status)
    if target is None:
        reporter.message(f"{counts}; not written, as no folder can be; give --json FILE to keep the verdicts")
    else:
        check_target(target, _DIAGNOSIS_KEYS)  # it may have come into being since
        write_text(target, jsonlib.dumps(found.to_json(), indent=1) + "\n")
        reporter.message(f"{counts}; written to {target}")
    return 1 if found.failed else 0


def _interrupted(folder: Path, resume: bool) -> Interrupted:
    """Return the error that ends the command, with the files of the finished batches."""
    kept = sorted(folder.glob(_STATES))
    finished = (
        f"finished batches of the attack under way are kept in {', '.join(map(str, kept))}"
        if kept
        else "nothing is kept"
    )
    again = "the same command" if resume else "the same command, but --resume true"
    return Interrupted(signal.SIGINT, f"stopped; {finished}. Continue with: {again}")
