"""The options that analyses share, and the way from words to models or runs, and from a record to its files."""

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
import tyro
from rich.console import Console
from rich.table import Table

from nuat import data, hardware
from nuat.analysis.models import NamedModel
from nuat.analysis.record import Record, Subject
from nuat.commands.analyse.names import model_name
from nuat.commands.subject import Subject as Found
from nuat.commands.subject import check_fits, find_subject, settle_threat
from nuat.config import DataConfig, ThreatConfig
from nuat.config.arguments import parse
from nuat.core import digest
from nuat.data import Dataset, ImageSet, class_balanced
from nuat.errors import InputError
from nuat.evaluation.inspection import inspect
from nuat.models import external
from nuat.progress import TerminalReporter
from nuat.records import checkpoints

Format = Literal["svg", "png", "pdf"]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the record and the figure go."""

    out: Path | None = None
    """Folder of the record and the figure; none: beside the first weights or run, or the current folder."""
    suffix: str = ""
    """Ending of the files' names, analysis-<kind>-<suffix>, to keep several."""
    format: Format = "svg"
    """Of the figure: svg, png or pdf."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(OutputOptions):
    """What analyses of models have in common."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs (their best weights are taken), .safetensors files, or file.py:function, as for nuat
    evaluate."""
    names: tuple[str, ...] = ()
    """What the figure calls the models, in their order; by default their method's name."""
    seed: int = 0
    """Seed of the random draws."""
    batch_size: int = 250
    """Images attacked, or passed forward, at once."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set; by default the one that the models were trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images; by default those that the runs used."""


M = TypeVar("M", bound=ModelOptions)
P = TypeVar("P", bound=OutputOptions)


def leading(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first option, and the rest."""
    first = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return arguments[:first], arguments[first:]


def parse_paths(kind: type[P], arguments: list[str], prog: str, needed: str) -> P:
    """Return the options of an analysis of runs or records, whose positional paths come first."""
    if "--help" in arguments or "-h" in arguments:
        parse(kind, ["--help"], prog=prog)
    if not leading(arguments)[0]:
        raise InputError(f"say first {needed}: {prog} PATH....")
    return parse(kind, arguments, prog=prog)


def given(arguments: list[str], option: str) -> bool:
    """Return whether ``option``, such as --pgd-alpha, is among the arguments, however it is written."""
    return any(word.split("=")[0].replace("_", "-") == option for word in arguments)


def parse_models(
    kind: type[M], arguments: list[str], prog: str, *, single: bool = False, steps_of_pgd: bool = False
) -> tuple[M, list[Found]]:
    """Return the options of an analysis of models, with what each model is.

    ``single`` analyses take one model; to those with ``steps_of_pgd`` the step of the perturbation set matters.

    Raises:
        InputError: no models, models of different data or eps where none was chosen, or a wrong option.
    """
    if "--help" in arguments or "-h" in arguments:
        parse(kind, ["--help"], prog=prog)
    words, rest = leading(arguments)
    if not words:
        raise InputError(f"say first which models: {prog} RUN|WEIGHTS|FILE.py:FUNCTION....")
    if single and len(words) > 1:
        raise InputError(f"{prog} takes one model; {len(words)} were given.")
    found = [find_subject([word, *rest]) for word in words]
    # a stranger's model says nothing; those that do must agree
    ours = [subject for subject in found if subject.weights is not None]
    if not given(rest, "--eps") and len({s.threat.eps for s in ours}) > 1:
        told = ", ".join(f"{s.weights}: {s.threat.eps:.4g}" for s in ours)
        raise InputError(f"the models were trained for different eps ({told}); give --eps.")
    chosen = any(word.startswith(("--data.name", "--data.path")) for word in rest)
    if not chosen and len({(s.data.name, s.data.path, s.data.image_size) for s in ours}) > 1:
        told = ", ".join(f"{s.weights}: {s.data.path or s.data.name}" for s in ours)
        raise InputError(f"the models were trained on different data ({told}); give --data.path or --data.name.")
    first = ours[0] if ours else found[0]
    default = kind(models=tuple(map(Path, words)), threat=first.threat, data=first.data)
    asked = parse(kind, arguments, prog=prog, default=default)
    if asked.threat.norm != "Linf":
        raise InputError(f"--norm {asked.threat.norm}: 'nuat analyse' measures within Linf balls alone; leave it out.")
    if not steps_of_pgd and given(rest, "--pgd-alpha"):
        raise InputError(f"--pgd-alpha has no effect in {prog}; leave it out.")
    asked = replace(asked, threat=settle_threat(asked.threat, first.threat, arguments))
    if asked.names and len(asked.names) != len(words):
        raise InputError(f"--names gives {len(asked.names)} names for {len(words)} models.")
    if asked.batch_size < 1:
        raise InputError(f"--batch-size {asked.batch_size}: expected at least 1.")
    return asked, found


def load_models(
    asked: ModelOptions, found: list[Found], dataset: Dataset, reporter: TerminalReporter
) -> list[NamedModel]:
    """Return the models that were asked for, ready to be measured on ``dataset``."""
    names = asked.names or _distinct(
        [model_name(subject.weights, word) for subject, word in zip(found, asked.models, strict=True)],
        [word.name if word.suffix != ".safetensors" else word.parent.name for word in asked.models],
    )
    device = hardware.resolve(asked.device)
    models = []
    for subject, word, name in zip(found, asked.models, names, strict=True):
        if subject.weights is None:
            model = external.load(str(word), device)
            sha256 = digest.of_tensors(*model.state_dict().values())
            for warning in inspect(model, dataset.test):
                reporter.message(f"warning: {word}: {warning}", style="bold yellow")
        else:
            check_fits(subject.weights, dataset)
            model = checkpoints.load(subject.weights, device=device)
            sha256 = digest.of_file(subject.weights)
        model.to(memory_format=torch.channels_last)
        models.append(NamedModel(Subject(name=name, weights_sha256=sha256), model))
    return models


def _distinct(names: list[str], places: list[str]) -> tuple[str, ...]:
    """Return names that differ: those that occur twice with their place, and a number if that is not enough."""
    counts = Counter(names)
    told = [f"{name} ({place})" if counts[name] > 1 else name for name, place in zip(names, places, strict=True)]
    return tuple(f"{name} #{told[:i].count(name) + 1}" if told.count(name) > 1 else name for i, name in enumerate(told))


def test_images(dataset: Dataset, n: int | None, default: int) -> ImageSet:
    """Return ``n`` class-balanced test images, the same as an evaluation's; a default is a cap, not a demand."""
    there = len(dataset.test)
    if n == default:
        n = min(default, there)
    if n is None or n == there:
        return dataset.test.select(torch.arange(there))
    if not 1 <= n <= there:
        raise InputError(f"--n {n}: expected 1 to {there}, the number of test images; none takes all.")
    return dataset.test.select(class_balanced(dataset.test.labels, n, seed=0))


def read_dataset(config: DataConfig) -> Dataset:
    """Return the images; only those of the test matter here, so none are held out or left out of the others."""
    return data.load(replace(config, train_limit=None, validation=0))


def target(asked: OutputOptions, beside: Path) -> Path:
    """Return the folder that the files go to, and refuse one that could not be written before anything runs."""
    folder = asked.out or beside
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{folder}: no file can be written there; choose another --out.")
    if Path(asked.suffix).name != asked.suffix:
        raise InputError(f"--suffix {asked.suffix}: expected the end of a file name, without folders.")
    return folder


def finish(record: Record, asked: OutputOptions, folder: Path, console: Console, *tables: Table) -> None:
    """Write a record and its figure, print tables, and say where the files are.

    The record comes first: it may be of hours, and nothing that is drawn or printed of it may lose it.
    """
    stem = f"analysis-{record.kind}" + (f"-{asked.suffix}" if asked.suffix else "")
    file, figure = folder / f"{stem}.json", folder / f"{stem}.{asked.format}"
    record.save(file)
    # drawing libraries take a second to import, which a refusal need not wait for
    from nuat.report import plots
    from nuat.report.plots import style

    style.save(plots.draw([record]), figure)
    for table in tables:
        console.print(table)
    say_written(console, file, figure)


def say_written(console: Console, *files: Path) -> None:
    """Print where files were written; a path may hold what rich would take for markup."""
    console.print(f"written to {' and '.join(map(str, files))}", highlight=False, soft_wrap=True, markup=False)
