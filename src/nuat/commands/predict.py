"""``nuat predict``: classify images with a trained model."""

import csv
import glob
import io
import json as jsonlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.table import Table
from torch import Tensor

from nuat import hardware
from nuat.attacks import PGD
from nuat.commands.adopted_model import adopt, say_variant
from nuat.commands.subject import check_target
from nuat.config import ForeignClassifier, ThreatConfig
from nuat.config.arguments import parse
from nuat.core.eps import eps_text
from nuat.core.threat import check_radius
from nuat.errors import InputError, printable
from nuat.files import write_text
from nuat.progress import TerminalReporter, terminal
from nuat.records import checkpoints
from nuat.records.trained_classifier import TrainedClassifier
from nuat.report.escaping import csv_cell

_STANDARD = Path("-")


@dataclass(frozen=True, kw_only=True)
class _Predict:
    """Classify images with a trained model; print a table, or write JSON or CSV."""

    model: tyro.conf.Positional[Path]
    """Folder of a run (its best weights are taken), a .safetensors file, a name that 'nuat models' lists, or anybody's
    weights with --model and --image-size, as for nuat evaluate."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, folders (with all files in them), patterns such as '*.jpg', or - for an image on standard input."""
    top: int = 1
    """Most probable classes that are shown, >= 1."""
    certainty: Literal["none", "attack"] = "none"
    """attack: try to change each answer with PGD, within the radius that the model was trained for."""
    eps: float | None = None
    """Radius of that attack, such as 8/255. None: the one that the model was trained for."""
    steps: int = 50
    """Steps of that attack, >= 1."""
    network: Annotated[ForeignClassifier, tyro.conf.arg(name="")] = field(default_factory=ForeignClassifier)
    """Network, images and classes of weights that nuat did not write."""
    json: Path | None = None
    """File of the answers as JSON, or - for standard output. None: they are only printed."""
    csv: Path | None = None
    """File of the answers as CSV, or - for standard output. None: they are only printed."""
    batch_size: int = 64
    """Images that are classified at once, >= 1."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Answer for one image."""

    image: str
    """Path of the image; - for standard input."""
    label: str
    """Most probable class."""
    probability: float
    """Probability of that class."""
    top: dict[str, float]
    """Most probable classes and their probabilities."""
    attacked: str | None
    """Class after the attack. None: there was no attack."""


def predict(arguments: list[str]) -> int:
    """``nuat predict RUN|WEIGHTS IMAGES... [--top K] [--certainty attack] [--json FILE] [--csv FILE]``.

    The exit code is 1 if an image could not be read.
    """
    asked = parse(_Predict, arguments or ["--help"], prog="nuat predict")
    _check(asked)
    device = hardware.resolve(asked.device)
    model = adopt(str(asked.model), asked.network, device, ThreatConfig())
    if model is None:
        model = checkpoints.load(asked.model, device=device)
    elif asked.certainty == "attack" and asked.eps is None:
        raise InputError(f"{asked.model} records no radius of its training; give --eps 8/255, or another radius.")
    else:
        say_variant(str(asked.model), model)
    piped = _STANDARD in (asked.json, asked.csv)
    console = terminal(stderr=piped)
    reporter = TerminalReporter(console)
    files = list(_files(asked.images))
    answers: list[_Answer] = []
    for start in range(0, len(files), asked.batch_size):
        answers += _classify(model, files[start : start + asked.batch_size], asked, reporter)
    if not answers:
        raise InputError("none of the images can be read; give image files, or folders that hold some.")
    left_out = len(files) - len(answers)
    if left_out:
        reporter.message(f"warning: {left_out} of {len(files)} files left out", style="yellow")
    if not piped:
        console.print(_table(answers, asked))
        if asked.certainty == "attack":
            kept = sum(answer.attacked == answer.label for answer in answers)
            console.print(
                f"{kept} of {len(answers)} answers withstand PGD-{asked.steps} at {model.info.threat.norm} eps "
                f"{eps_text(_eps(model, asked), model.info.threat.norm)}; a stronger attack may change more."
            )
    for target, text in ((asked.json, _json), (asked.csv, _csv)):
        if target == _STANDARD:
            sys.stdout.write(text(answers))
        elif target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text(answers))
            reporter.message(f"written to {target}")
    return 1 if left_out else 0


def _check(asked: _Predict) -> None:
    """Refuse options that cannot be, before the model is loaded."""
    if not asked.images:
        raise InputError("give the images, too: nuat predict RUN IMAGES....")
    for name, value in (("--top", asked.top), ("--steps", asked.steps), ("--batch-size", asked.batch_size)):
        if value < 1:
            raise InputError(f"{name} {value}: expected at least 1.")
    if asked.certainty == "none" and (asked.eps is not None or asked.steps != _Predict.steps):
        raise InputError("--eps and --steps have no effect without --certainty attack.")
    if asked.json == asked.csv == _STANDARD:
        raise InputError("--json - and --csv -: only one of them can go to standard output.")
    for target in (asked.json, asked.csv):
        if target is not None and target != _STANDARD:
            check_target(target)


def _files(named: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are named: themselves, in folders, by a pattern; hidden files in folders are passed over."""
    for path in named:
        if path == _STANDARD or path.is_file():
            yield path
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file())
            seen = [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
            if not seen:
                raise InputError(f"{path}: no files in this folder.")
            yield from seen
        else:
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - patterns of absolute paths, too
            matches = [match for match in sorted(map(Path, names)) if match.is_file() or match.is_dir()]
            if not matches:
                raise InputError(f"{path}: no such file or folder, and no file matches it as a pattern.")
            yield from _files(matches)


def _classify(
    model: TrainedClassifier, files: Sequence[Path], asked: _Predict, reporter: TerminalReporter
) -> list[_Answer]:
    """Return the answers for the files that are images; say which are not."""
    read: list[Path] = []
    prepared: list[Tensor] = []
    for file in files:
        try:
            prepared.append(model.transform(sys.stdin.buffer.read() if file == _STANDARD else file))
            read.append(file)
        except InputError as error:
            reporter.message(f"warning: {error}", style="bold yellow")
    if not read:
        return []
    x = torch.stack(prepared)
    predictions = model.predict(x)
    labels = [prediction.label for prediction in predictions]
    attacked: Sequence[str | None] = [None] * len(labels)
    if asked.certainty == "attack":
        attacked = [prediction.label for prediction in model.predict(_attacked(model, x, labels, asked))]
    return [
        _Answer(
            image=str(file),
            label=prediction.label,
            probability=prediction.probability,
            top=dict(list(prediction.probabilities.items())[: asked.top]),
            attacked=after,
        )
        for file, prediction, after in zip(read, predictions, attacked, strict=True)
    ]


def _eps(model: TrainedClassifier, asked: _Predict) -> float:
    if asked.eps is None:
        return model.info.threat.eps
    check_radius("--eps", asked.eps, model.info.threat.norm)
    return asked.eps


def _attacked(model: TrainedClassifier, x: Tensor, labels: Sequence[str], asked: _Predict) -> Tensor:
    """Return the images [B, C, H, W] after PGD against the model's own answers, on the CPU."""
    threat, device = model.info.threat, next(model.parameters()).device
    eps = _eps(model, asked)
    y = torch.tensor([model.classes.index(label) for label in labels], device=device)
    generator = torch.Generator(device).manual_seed(0)
    alpha = eps * threat.pgd_alpha / threat.eps
    with hardware.full_precision():
        pgd = PGD(model, eps=eps, alpha=alpha, steps=asked.steps, norm=threat.norm, generator=generator)
        return pgd(x.to(device), y).cpu()


def _table(answers: Sequence[_Answer], asked: _Predict) -> Table:
    """Return a row for each image; with --top, the next classes stand below the first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    if asked.certainty == "attack":
        table.add_column(f"after PGD-{asked.steps}", overflow="fold")
    for answer in answers:
        for rank, (label, probability) in enumerate(answer.top.items()):
            cells = [answer.image if rank == 0 else "", label, f"{probability:.1%}"]
            if asked.certainty == "attack" and rank == 0:
                cells.append("same" if answer.attacked == answer.label else str(answer.attacked))
            table.add_row(*map(printable, cells))
    return table


def _json(answers: Sequence[_Answer]) -> str:
    return jsonlib.dumps([asdict(answer) for answer in answers], indent=1) + "\n"


def _csv(answers: Sequence[_Answer]) -> str:
    """Return the answers as CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    most = max(len(answer.top) for answer in answers)
    ranks = [f"{name}_{rank}" for rank in range(2, most + 1) for name in ("label", "probability")]
    after = ["attacked"] if answers[0].attacked is not None else []
    writer.writerow(["image", "label", "probability", *ranks, *after])
    for answer in answers:
        cells = [answer.image]
        for label, probability in answer.top.items():
            cells += [label, f"{probability:.6g}"]
        cells += [answer.attacked] if answer.attacked is not None else []
        writer.writerow(map(csv_cell, cells))
    return file.getvalue()
