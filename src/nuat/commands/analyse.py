"""``nuat analyse FIGURE ...``: measure, write the record, draw the figure, print the table."""

import contextlib
import textwrap
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import nn

from nuat import data, hardware, own_code
from nuat.attacks import eval_mode
from nuat.commands.subject import INHERITED, Subject, find_subject, load_model, settle_threat
from nuat.config import DataConfig, ForeignNetwork
from nuat.config.arguments import HELP, parse
from nuat.core import digest
from nuat.core.eps import threat_text
from nuat.data import Dataset, to_float
from nuat.errors import InputError, printable
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.inspection import inspect, no_gradient
from nuat.figures import style
from nuat.figures.catalogue import FIGURES, draw, find, read
from nuat.figures.common_options import ModelOptions, OutputOptions
from nuat.figures.figure_record import FigureRecord, ModelIdentity
from nuat.figures.kind import FigureKind, ModelFigure
from nuat.figures.measuring import NamedModel
from nuat.files import check_writable
from nuat.progress import TerminalReporter, terminal
from nuat.records import checkpoints
from nuat.records.finished_runs import finished_runs
from nuat.records.runs import ROW, read_row

_HELP = """\
usage: nuat analyse FIGURE ... [--out FOLDER] [--format svg|png|pdf]

Measure what a figure shows, write it as analysis-<FIGURE>.json, and draw the
figure next to it.

figures:
{lines}

MODELS are runs, or anybody's as for 'nuat evaluate'; RUNS are folders of runs
or campaigns.
FIGURE may be one of your own, FILE.py:FIGURE.
'nuat analyse FIGURE --help' shows the settings of a figure.
"""
_REDRAW = ("RECORD.json...", "draw figures again from their records alone")
_LONGEST_RECIPE = 40


@dataclass(frozen=True, kw_only=True)
class _Redraw(OutputOptions):
    """Draw figures again from their records alone."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Records that 'nuat analyse' wrote."""
    together: bool = False
    """Whether to draw all records, of one kind, as one figure instead of one each."""


def analyse(arguments: list[str]) -> int:
    """Run ``nuat analyse FIGURE ...`` and return the exit code.

    Raises:
        InputError: an unknown figure, or something that the figure refuses.
    """
    if not arguments or arguments[0] in HELP:
        print(_HELP.format(lines=_list()), end="")
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name == "redraw":
        return _redraw(rest)
    figure, prog = find(name), f"nuat analyse {name}"
    measure = _measure_models if isinstance(figure, ModelFigure) else _measure_runs
    measure(figure, rest, prog, own_code.pin(name))
    return 0


def _list() -> str:
    lines = {f"{name} {figure.takes}": figure.summary for name, figure in FIGURES.items()}
    lines[f"redraw {_REDRAW[0]}"] = _REDRAW[1]
    width = max(map(len, lines)) + 4
    return "\n".join(
        textwrap.fill(
            told, 80, initial_indent=f"  {head}".ljust(width), subsequent_indent=" " * width, break_on_hyphens=False
        )
        for head, told in lines.items()
    )


def _measure_models(figure: Any, arguments: list[str], prog: str, name: str) -> None:
    asked, subjects = _parse_models(figure, arguments, prog)
    folder = _folder(asked, subjects[0].folder)
    dataset = _read_dataset(asked.data)
    reporter = TerminalReporter(terminal())
    models = _load(asked, subjects, dataset, reporter)
    _finish(figure, figure.measure(asked, models, dataset, reporter), asked, folder, reporter.console, name)


def _measure_runs(figure: Any, arguments: list[str], prog: str, name: str) -> None:
    asked = _parse_paths(figure.options, arguments, prog, "run; name folders of runs or campaigns")
    first = asked.runs[0]
    folder = _folder(asked, first if first.is_dir() else first.parent)
    reporter = TerminalReporter(terminal())
    _finish(figure, figure.measure(asked, finished_runs(asked.runs), reporter), asked, folder, reporter.console, name)


def _redraw(arguments: list[str]) -> int:
    asked = _parse_paths(_Redraw, arguments, "nuat analyse redraw", "record; name files of 'nuat analyse'")
    if asked.suffix and not asked.together:
        raise InputError("--suffix has no effect without --together true: each figure is named as its record.")
    folder = _folder(asked, asked.records[0].parent)
    records = [read(path) for path in asked.records]
    if asked.together:
        drawn = [(folder / f"{_stem(records[0], asked)}.{asked.format}", records)]
    else:
        drawn = [
            ((asked.out or path.parent) / f"{path.stem}.{asked.format}", [record])
            for path, record in zip(asked.records, records, strict=True)
        ]
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    for file, of_figure in drawn:
        style.save(draw(of_figure), file)
        _say_written(terminal(), file)
    return 0


def _parse_paths(kind: Any, arguments: list[str], prog: str, needed: str) -> Any:
    """Return the options of a figure of runs or records, whose paths come first."""
    if HELP.intersection(arguments):
        parse(kind, ["--help"], prog=prog)
    if not _leading(arguments)[0]:
        raise InputError(f"{prog} needs at least one {needed} before the options.")
    return parse(kind, arguments, prog=prog)


def _parse_models(figure: ModelFigure, arguments: list[str], prog: str) -> tuple[Any, list[Subject]]:
    """Return the options of a figure of models, and what each model is.

    Raises:
        InputError: no models, models of different data or eps where none was given, or a wrong option.
    """
    kind: Any = figure.options
    everyday = _everyday(kind)
    if HELP.intersection(arguments):
        parse(kind, sorted(HELP.intersection(arguments)), prog=prog, everyday=everyday, inherited=INHERITED)
    words, rest = _leading(arguments)
    if not words:
        raise InputError(f"{prog} needs at least one model; name runs, weights or file.py:function before the options.")
    if figure.single and len(words) > 1:
        raise InputError(f"{prog} takes one model, got {len(words)}; give one command for each.")
    found = [find_subject([word, *rest]) for word in words]
    for subject, word in zip(found, words, strict=True):
        if not subject.gradients:
            raise InputError(f"{word}: the figures follow gradients, and an ONNX file has none; evaluate it instead.")
    # anybody's model says nothing of its training; those that do must agree
    ours = [subject for subject in found if subject.weights is not None]
    balls = {s.weights: threat_text(s.threat.norm, s.threat.eps, s.threat.also) for s in ours}
    union = next((s for s in ours if s.threat.also is not None), None)
    if not _given(rest, "--eps") and (union is not None or len(set(balls.values())) > 1):
        told = ", ".join(f"{weights}: {ball}" for weights, ball in balls.items())
        which = "different balls" if union is None else "a union of balls"
        raise InputError(f"trained for {which} ({told}), and the figure is of one in Linf; give --norm Linf and --eps.")
    chosen = any(word.startswith(("--data.name", "--data.path")) for word in rest)
    if not chosen and len({(s.data.name, s.data.placed().path, s.data.image_size) for s in ours}) > 1:
        told = ", ".join(f"{s.weights}: {s.data.path or s.data.name}" for s in ours)
        raise InputError(f"the models were trained on different data ({told}); give --data.path or --data.name.")
    first = ours[0] if ours else found[0]
    default = kind(models=tuple(map(Path, words)), threat=replace(first.threat, also=None), data=first.data)
    asked = parse(kind, arguments, prog=prog, default=default, everyday=everyday)
    if asked.threat.also is not None:
        raise InputError(f"--also: '{prog}' measures within one ball; leave it out.")
    if asked.threat.norm != "Linf":
        raise InputError(
            f"--norm {asked.threat.norm}: 'nuat analyse' measures within Linf balls only; give --norm Linf --eps 8/255."
        )
    if not figure.uses_pgd_alpha and _given(rest, "--pgd-alpha"):
        raise InputError(f"--pgd-alpha has no effect in {prog}; leave it out.")
    asked = replace(asked, threat=settle_threat(asked.threat, first.threat, arguments))
    if asked.names and len(asked.names) != len(words):
        raise InputError(f"--names: expected one name for each of {len(words)} models, got {len(asked.names)}.")
    if asked.batch_size < 1:
        raise InputError(f"--batch-size {asked.batch_size}: expected at least 1.")
    return asked, found


def _everyday(kind: Any) -> tuple[str, ...]:
    """Return the options that ``--help`` shows: those of the figure, and the ones of the images that name them."""
    own = [f"--{field.name.replace('_', '-')}" for field in fields(kind)]
    return (*own, "--eps", "--data.path", "--data.name")


def _leading(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first option, and the rest."""
    first = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return arguments[:first], arguments[first:]


def _given(arguments: list[str], option: str) -> bool:
    """Return whether ``option``, such as --pgd-alpha, is among the arguments, in any of its spellings."""
    return any(word.split("=")[0].replace("_", "-") == option for word in arguments)


def _load(
    asked: ModelOptions, subjects: list[Subject], dataset: Dataset, reporter: TerminalReporter
) -> list[NamedModel]:
    """Return the models, ready to be measured on ``dataset``."""
    names = asked.names or _distinct(
        [_model_name(subject.weights, word) for subject, word in zip(subjects, asked.models, strict=True)],
        [word.name if word.suffix != ".safetensors" else word.parent.name for word in asked.models],
    )
    device = hardware.resolve(asked.device)
    all_ours = all(subject.weights is not None for subject in subjects)  # --model is refused then
    models = []
    for subject, word, name in zip(subjects, asked.models, names, strict=True):
        network = asked.network if subject.weights is None or all_ours else ForeignNetwork()
        loaded = load_model(str(word), dataset, device, network=network)
        model = guarded(loaded.model, loaded.order)
        for note in loaded.notes:
            reporter.message(note)
        if subject.weights is None:
            sha256 = digest.of_tensors(*model.state_dict().values())
            _check_gradient(model, dataset, device, word)
            for warning in inspect(model, dataset.test, classes=len(dataset.classes)):
                reporter.message(f"warning: {word}: {warning}", style="bold yellow")
        else:
            sha256 = digest.of_file(subject.weights)
        model.to(memory_format=torch.channels_last)
        models.append(NamedModel(ModelIdentity(name=printable(name), weights_sha256=sha256), model))
    return models


def _check_gradient(model: nn.Module, dataset: Dataset, device: torch.device, word: Path) -> None:
    """Refuse a model without a gradient: every figure of models follows it, and would show a flat curve."""
    part = dataset.test.select(torch.arange(min(2, len(dataset.test)))).to(device)
    with eval_mode(model):
        reason = no_gradient(model, to_float(part.images), part.labels)
    if reason is not None:
        raise InputError(
            f"{word}: {reason}, and this figure follows it; 'nuat evaluate {word} --black-box true' does not."
        )


def _model_name(weights: Path | None, word: Path) -> str:
    """Return the label of the method in its campaign, else the recipe in the weights, else the name that was given."""
    if weights is None:
        return word.name
    with contextlib.suppress(InputError):  # no row of a campaign, or a damaged one
        if label := read_row(weights.parent / ROW).get("label"):
            return str(label)
    return checkpoints.read_info(weights).recipe[:_LONGEST_RECIPE] or word.name


def _distinct(names: list[str], places: list[str]) -> tuple[str, ...]:
    """Return different names: those that occur twice with their place, and a number if that is not enough."""
    counts = Counter(names)
    told = [f"{name} ({place})" if counts[name] > 1 else name for name, place in zip(names, places, strict=True)]
    return tuple(f"{name} #{told[:i].count(name) + 1}" if told.count(name) > 1 else name for i, name in enumerate(told))


def _read_dataset(config: DataConfig) -> Dataset:
    """Return the data set with all its test images; none are held out, and the training images do not matter."""
    return data.load(replace(config, train_limit=None, validation=0), needs_train=False)


def _folder(asked: OutputOptions, default: Path) -> Path:
    """Return the folder of the files. Refuse one that cannot be written, before anything runs."""
    folder = asked.out or default
    check_writable(folder, "--out")
    if Path(asked.suffix).name != asked.suffix:
        raise InputError(f"--suffix {asked.suffix}: expected the end of a file name, without folders.")
    return folder


def _stem(record: FigureRecord, asked: OutputOptions) -> str:
    return f"analysis-{record.kind}" + (f"-{asked.suffix}" if asked.suffix else "")


def _finish(
    figure: FigureKind, record: FigureRecord, asked: OutputOptions, folder: Path, console: Console, name: str
) -> None:
    """Write a record and its figure, print its table, and say where the files are."""
    stem = _stem(record, asked)
    file, picture = folder / f"{stem}.json", folder / f"{stem}.{asked.format}"
    if asked.out is not None:
        folder.mkdir(parents=True, exist_ok=True)
    # the record first: it may have taken hours, and no fault in drawing or printing may lose it
    record.save(file, figure=name if own_code.is_pinned(name) else "")
    style.save(draw([record]), picture)
    if figure.table is not None:
        console.print(figure.table(record))
    _say_written(console, file, picture)


def _say_written(console: Console, *files: Path) -> None:
    """Print where files were written."""
    console.print(f"written to {' and '.join(map(str, files))}")
