"""``nuat diagnose``."""

import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from nuat import data, hardware
from nuat.commands.subject import (
    INHERITED,
    check_target,
    find_subject,
    load_model,
    own_ball,
    result_file,
    settle_threat,
    with_values,
)
from nuat.config import DataConfig, ForeignNetwork, ThreatConfig
from nuat.config.arguments import HELP, parse
from nuat.diagnostics import Surrogate, examine
from nuat.diagnostics.examination import finished_parts, seconds_needed
from nuat.errors import InputError
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.inspection import inspect
from nuat.files import writable, write_json
from nuat.progress import TerminalReporter, duration, progress_bars, terminal
from nuat.report.diagnosis import LEGEND, headline, verdict_lines, verdict_prose
from nuat.training.signals import Interrupted

_DIAGNOSIS_KEYS = frozenset({"counts", "verdicts", "evaluation"})
"""Entries by which a JSON file is known as a diagnosis."""
_EVERYDAY = (
    *("--model", "--mean", "--std", "--quick", "--verbose", "--n", "--eps", "--norm", "--json", "--surrogate"),
    *("--class-map", "--data.path", "--data.name", "--batch-size", "--resume", "--seed", "--device"),
)
"""Options that ``--help`` shows."""


@dataclass(frozen=True, kw_only=True)
class _Diagnose:
    """Examine whether a model's robustness is to be believed: gradient masking and weak attacks, as verdicts."""

    model: tyro.conf.Positional[str]
    """Folder of a run, or anybody's model, as for nuat evaluate."""
    n: int | None = 300
    """Test images, class-balanced. None: all. With fewer than about 300, checks stay inconclusive."""
    quick: bool = False
    """Leave out the checks that need AutoAttack, Square, noise or adaptive attacks, about nine tenths of the time. The
    verdict is then partial."""
    verbose: bool = False
    """Also print the threshold, all measurements and the meaning of each check."""
    json: Path | None = None
    """File of the verdicts; only a file of verdicts is replaced. None: diagnosis.json, or diagnosis-quick.json, in the
    folder of the weights, or in the current folder."""
    class_map: tuple[str, ...] = ()
    """Order of the classes of the model, as for nuat evaluate. Empty: the images', or as the names say."""
    network: Annotated[ForeignNetwork, tyro.conf.arg(name="")] = field(default_factory=ForeignNetwork)
    """Network and normalisation of a model that nuat did not train."""
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
    """Perturbation set. Default: the one that the model was trained for; a union is examined ball by ball."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images. Default: those of the run."""


def diagnose(arguments: list[str]) -> int:
    """``nuat diagnose MODEL [--quick] [--surrogate MODEL] [--n ...] [--json FILE]``; exit code 0 when nothing fails."""
    if not arguments or arguments[0] in HELP:
        parse(_Diagnose, arguments[:1] or ["--help"], prog="nuat diagnose", everyday=_EVERYDAY, inherited=INHERITED)
    if arguments[0].startswith("-"):
        raise InputError("say first what to examine: nuat diagnose RUN|WEIGHTS|FILE.py:FUNCTION.")
    subject = find_subject(arguments)
    default = _Diagnose(model=arguments[0], threat=own_ball(subject.threat, arguments), data=subject.data)
    words = with_values(arguments, "--quick", "--verbose")
    asked = parse(_Diagnose, words, prog="nuat diagnose", default=default, everyday=_EVERYDAY)
    asked = replace(asked, threat=settle_threat(asked.threat, subject.threat, arguments))
    target = result_file(asked.json, subject.folder, f"diagnosis{'-quick' * asked.quick}.json")
    if target is not None:
        check_target(target, _DIAGNOSIS_KEYS)
    dataset = data.load(asked.data, needs_train=False)
    n = asked.n if asked.n is None or asked.n != _Diagnose.n else min(asked.n, len(dataset.test))
    console = terminal()
    reporter = TerminalReporter(console)
    device = hardware.resolve(asked.device)
    loaded = load_model(asked.model, dataset, device, network=asked.network, class_map=asked.class_map)
    surrogate = None
    if asked.surrogate is not None:
        other = load_model(asked.surrogate, dataset, device)
        surrogate = Surrogate(guarded(other.model, other.order), asked.surrogate)
    for note in loaded.notes:
        reporter.message(note)
    known = len(dataset.classes)
    for warning in inspect(loaded.model, dataset.test, order=loaded.order, classes=known, batch_size=asked.batch_size):
        reporter.message(f"warning: {warning}", style="bold yellow")
    states = subject.folder if writable(subject.folder) else None
    if states is None:
        reporter.message(f"{subject.folder} cannot be written: an examination that is interrupted starts afresh")
    elif not asked.resume:
        for state in finished_parts(states, quick=asked.quick):
            state.unlink(missing_ok=True)
    settings: dict[str, Any] = {
        "threat": asked.threat,
        "n": n,
        "batch_size": asked.batch_size,
        "class_map": loaded.order,
    }
    learns = surrogate is None and len(dataset.train) > 0
    seconds = seconds_needed(loaded.model, dataset.test, learns=learns, quick=asked.quick, **settings)
    hint = "" if asked.quick else "; --quick takes about a tenth"
    reporter.message(f"examining {n or len(dataset.test):,} images: about {duration(seconds)} at most{hint}")
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)  # now: not if it is removed meanwhile
    try:
        with progress_bars(reporter) as progress:
            found = examine(
                loaded.model,
                dataset.test,
                seed=asked.seed,
                training=dataset.train,
                surrogate=surrogate,
                quick=asked.quick,
                state_folder=states,
                progress=progress,
                **settings,
            )
    except KeyboardInterrupt:
        raise _interrupted(finished_parts(subject.folder, quick=asked.quick), asked.resume) from None
    console.print(headline(found), style="bold", soft_wrap=False)
    console.print(verdict_lines(found.verdicts))
    console.print(LEGEND, soft_wrap=False)
    if asked.verbose:
        console.print(verdict_prose(found.verdicts))
    if found.skipped:
        console.print(f"left out by --quick: {'; '.join(found.skipped)}", soft_wrap=False)
    for line in found.left_out:
        reporter.message(f"left out: {line}")
    if target is None:
        reporter.message("not written, as neither folder can be; give --json FILE to keep the verdicts")
    else:
        check_target(target, _DIAGNOSIS_KEYS)  # it may have come into being since
        try:
            write_json(target, found.to_json())
        except OSError as error:
            raise InputError(f"{target}: could not be written ({error.strerror}); see the verdicts above.") from None
        reporter.message(f"measurements and meanings: {target}")
    return 1 if found.failed else 0


def _interrupted(kept: list[Path], resume: bool) -> Interrupted:
    """Return the error that ends the command, with the place of the finished parts."""
    finished = f"{len(kept)} finished parts are kept in {kept[0].parent}" if kept else "nothing is kept"
    again = "the same command" if resume else "the same command, but --resume true"
    return Interrupted(signal.SIGINT, f"stopped; {finished}. Continue with: {again}")
