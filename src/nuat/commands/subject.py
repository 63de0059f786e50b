"""The subject of ``evaluate``, ``diagnose`` and ``analyse``: a run, weights, or anybody's model."""

import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from nuat import data
from nuat.commands.foreign_model import check_network, check_normalisation, load_foreign, per_channel
from nuat.config import DataConfig, ForeignNetwork, ThreatConfig
from nuat.config.arguments import HELP
from nuat.core import digest
from nuat.core.eps import EXAMPLES, check_usual
from nuat.errors import InputError
from nuat.evaluation.class_order import order_by_name
from nuat.files import check_writable, writable
from nuat.models import Normalise, external
from nuat.records import checkpoints
from nuat.records.folder import RunFolder
from nuat.records.hugging_face import read_hugging_face
from nuat.records.model_kinds import Kind, kind_of
from nuat.records.named_weights import is_named
from nuat.records.settings import read_data_config
from nuat.records.trained_classifier import TrainedClassifier

INHERITED = {
    "--eps": "the run's eps; other models need it",
    "--pgd-alpha": "the run's, in proportion to eps; else eps / 4 in Linf, and eps / 10 in L2 and L1",
    "--data.name": "the run's; other models need it, or --data.path",
    **dict.fromkeys(("--norm", "--also", "--data."), ""),
}
"""Beginnings of the options whose default is the value of the run, with words for it where "else" would mislead."""


@dataclass(frozen=True)
class Subject:
    """A model to look at, before it and its images are read."""

    weights: Path | None
    """Weights file that nuat wrote. None: anybody's model."""
    folder: Path
    """Folder of the results."""
    stem: str
    """Beginning of the names of files about it."""
    threat: ThreatConfig
    """Perturbations that it was trained to withstand, or the default."""
    data: DataConfig
    """Images that it was trained on, or the default."""
    code: str = ""
    """Digest of anybody's file, so that results of another version of it are not resumed."""
    gradients: bool = True
    """Whether the model may have gradients; an ONNX file has none here."""


def find_subject(arguments: list[str], *, attacked: bool = True) -> Subject:
    """Return the subject that the first argument names; one that is ``attacked`` needs a radius.

    Raises:
        InputError: there is no such file, or an option is missing that it needs.
    """
    named, helping = arguments[0], bool(HELP.intersection(arguments))
    has_images = helping or any(word.startswith(("--data.name", "--data.path")) for word in arguments)
    kind = kind_of(named)
    if kind is not Kind.OURS:
        asked = next((following for word, following in _options(arguments) if word == "--model"), None)
        if not helping:
            check_network(named, kind, ForeignNetwork(name=asked))
            if attacked and not any(word == "--eps" for word, _ in _options(arguments)):
                raise InputError(f"{named} records no radius of its training; give --eps 8/255, or another radius.")
        if not has_images:
            raise InputError(f"say which images {named} is attacked on: --data.name or --data.path.")
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(named).name)
        file = _file(named, kind)
        files = [file, Path(asked.rpartition(":")[0])] if asked and external.names_function(asked) else [file]
        # a missing file is refused when it is loaded
        code = "".join(digest.of_file(file) for file in files if file.is_file())
        return Subject(
            None, Path(), stem, ThreatConfig(), DataConfig(validation=0), code, gradients=kind is not Kind.ONNX
        )
    weights = checkpoints.weights_file(Path(named))
    info = checkpoints.read_info(weights)
    home = RunFolder(weights.parent)
    if home.config.is_file():
        images = read_data_config(home.config)
        given = {word for word, _ in _options(arguments)}
        if images.path is not None and "--data.name" in given and "--data.path" not in given:
            images = DataConfig(validation=0, cache=images.cache)  # that set, not the images of the run
    elif has_images:
        images = DataConfig(validation=0)  # only the test images are used
    else:
        raise InputError(f"{weights} lies in no run, so say which images to attack: --data.name or --data.path.")
    folder = Path() if is_named(named) else weights.parent
    return Subject(weights, folder, weights.stem, info.threat, images)


def _options(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the words of a command that may be options, each with its value."""
    for word, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = word.partition("=")
        yield name, value if equals else following


def _file(named: str, kind: Kind) -> Path:
    """Return the file that decides what a model computes."""
    if kind is Kind.FUNCTION:
        return Path(named.rpartition(":")[0])
    return read_hugging_face(Path(named)).weights if kind is Kind.HUGGING_FACE else Path(named)


def settle_threat(asked: ThreatConfig, trained: ThreatConfig, arguments: Sequence[str]) -> ThreatConfig:
    """Return the perturbation set, where the user may have named another than that of the model.

    The step of PGD, unless given, keeps its ratio to the radius. With another norm the radius must be given, and the
    step is a tenth of it.

    Raises:
        InputError: another norm without a radius, or a radius that suits another norm or was meant in 1/255.
    """

    def given(option: str) -> bool:
        return any(re.match(rf"--{option}(=|$)", word) for word in arguments)

    if asked.norm != trained.norm and not given("eps"):
        raise InputError(
            f"--norm {asked.norm}: give its radius, too, such as --eps {EXAMPLES[asked.norm]}; eps is of "
            f"{trained.norm}."
        )
    for one in asked.parts:
        option = "eps" if one.norm == asked.norm else "also"
        if given(option):
            check_usual(f"--{option}", one.eps, one.norm)
    if given("pgd[-_]alpha") or asked == trained:
        return asked
    share = trained.pgd_alpha / trained.eps if asked.norm == trained.norm else 0.1
    return replace(asked, pgd_alpha=share * asked.eps)


def own_ball(trained: ThreatConfig, arguments: Sequence[str]) -> ThreatConfig:
    """Return the threat of a model as a default: of a union the first ball alone, where the user names a ball."""
    named = any(re.match(r"--(norm|eps)(=|$)", word) for word in arguments)
    return replace(trained, also=None) if named else trained


def result_file(asked: Path | None, folder: Path, name: str) -> Path | None:
    """Return the file of the results: the one asked for, or ``name`` in ``folder`` or else in the current folder.

    None: neither folder can be written.
    """
    if asked is not None:
        return asked
    return next((place / name for place in (folder, Path()) if writable(place)), None)


def save_results(save: Callable[[Path], None], target: Path, keys: frozenset[str]) -> Path:
    """Write results, in a temporary folder if ``target`` fails, and return the file.

    Args:
        save: writes them to a file.
        target: file of the results.
        keys: entries by which an existing file is known as results of the same kind.

    Raises:
        InputError: they are in the temporary folder.
    """
    try:
        check_target(target, keys)  # it may have come into being since
        save(target)
    except (OSError, InputError) as error:
        rescued = Path(tempfile.gettempdir()) / f"evaluation-{datetime.now():%Y%m%d-%H%M%S}.json"
        save(rescued)
        raise InputError(f"--json {target}: could not be written ({error}); the results are in {rescued}.") from None
    return target


def check_target(path: Path, keys: frozenset[str] | None = None) -> None:
    """Refuse a file that could not be written, or may not be replaced, before hours pass.

    Args:
        path: file of the results.
        keys: entries by which an existing file is known as results of the same kind. None: any file is replaced.

    Raises:
        InputError: it is a folder, a device, or another kind of file; or its folder cannot be written.
    """
    if path.is_dir():
        raise InputError(f"--json {path}: is a folder; give the name of a file.")
    if path.exists() and not path.is_file():
        raise InputError(f"--json {path}: is no regular file; give the name of a file.")
    if keys is not None and path.is_file() and not _holds(path, keys):
        raise InputError(f"--json {path}: exists and was not written by this command; give another name.")
    check_writable(path.parent, "--json")


def _holds(path: Path, keys: frozenset[str]) -> bool:
    """Return whether a file is a JSON object with these entries."""
    try:
        with path.open("rb") as file:
            if file.read(1) != b"{":  # weights may be gigabytes
                return False
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and keys <= values.keys()


def with_values(arguments: list[str], *flags: str) -> list[str]:
    """Return the arguments with the word "true" after each of ``flags`` that stands without a value."""
    found: list[str] = []
    for word, following in itertools.zip_longest(arguments, arguments[1:]):
        found.append(word)
        if word in flags and (following is None or following.startswith("--")):
            found.append("true")
    return found


@dataclass(frozen=True)
class LoadedModel:
    """A model with the order of its classes."""

    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""
    order: tuple[int, ...] | None
    """The logit of each class of the images. None: logit i is class i."""
    notes: tuple[str, ...] = ()
    """Lines for the user on what was assumed."""


def load_model(
    named: str,
    dataset: data.Dataset,
    device: torch.device,
    *,
    network: ForeignNetwork | None = None,
    class_map: tuple[str, ...] = (),
) -> LoadedModel:
    """Return the model that a user names, with its classes in the order of those of the images.

    Args:
        named: run, weights, or anybody's model, see ``nuat.records.model_kinds``.
        dataset: images that it is for.
        device: device of the model.
        network: network and normalisation that the user gives. None: the command has no option for them.
        class_map: logit of each class of the images; or the names of the classes of the model, in the order of its
            logits, or one file of them. Empty: the names that the model brings, if any.

    Raises:
        InputError: no such model, images of another shape or number of classes, or classes that do not match.
    """
    kind, notes = kind_of(named), []
    if kind is Kind.OURS:
        weights = checkpoints.weights_file(Path(named))
        check_fits(weights, dataset, classes=not class_map)
        classifier, info = checkpoints.load(weights, device=device), checkpoints.read_info(weights)
        if network is not None:
            _refuse_another_network(named, classifier, per_channel(network, dataset.channels))
        model: nn.Module = classifier
        names = info.classes
    else:
        if network is None:
            check_network(named, kind, None)
        found = load_foreign(
            named,
            kind,
            network or ForeignNetwork(),
            device,
            channels=dataset.channels,
            image_size=dataset.image_size,
            classes=len(dataset.classes),
        )
        model, names = found.model, found.classes
        notes += [found.note] if found.note else []
    if class_map and all(re.fullmatch(r"\d+", word) for word in class_map):
        order: tuple[int, ...] | None = tuple(map(int, class_map))
        if len(class_map) != len(dataset.classes):
            raise InputError(
                f"--class-map names {len(class_map)} logits; {dataset.source} has {len(dataset.classes)} classes."
            )
        return LoadedModel(model, order, tuple(notes))
    if class_map:
        names = class_names(class_map, "--class-map")
        missing = [name for name in dataset.classes if name not in names]
        if missing:
            raise InputError(
                f"--class-map {','.join(class_map)}: it is neither the logits of the classes nor names that include "
                f"{missing[0]!r}; {dataset.source} has {', '.join(map(repr, dataset.classes))}."
            )
    order = order_by_name(names, dataset.classes, owner=named, source=dataset.source) if names else None
    if order is not None:
        notes.append(f"{named}: classes matched by name, as their order differs from the images'")
    return LoadedModel(model, order, tuple(notes))


def _refuse_another_network(named: str, model: TrainedClassifier, asked: ForeignNetwork) -> None:
    """Refuse a network for weights that nuat wrote, and a normalisation other than theirs."""
    if asked.names_network or asked.options:
        name = model.info.model.name
        raise InputError(f"{named} says which network it is for, {name}; leave --model and its options out.")
    mean, std = (0.0,) * model.info.channels, (1.0,) * model.info.channels
    if isinstance(model.normalise, Normalise):
        mean, std = (tuple(values.flatten().tolist()) for values in (model.normalise.mean, model.normalise.std))
    check_normalisation(named, asked, mean, std)


def class_names(given: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Return the names of classes that an option gives, or those in the file that it names."""
    if len(given) != 1 or not Path(given[0]).is_file():
        return given
    try:
        text = Path(given[0]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {given[0]}: cannot be read ({error}).") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def check_fits(weights: Path, dataset: data.Dataset, *, classes: bool = True) -> None:
    """Refuse images of another shape or, unless ``classes`` is false, another number of classes than weights are for.

    Raises:
        InputError: they do not fit.
    """
    info = checkpoints.read_info(weights)
    if (dataset.channels, dataset.image_size) != (info.channels, info.image_size):
        raise InputError(
            f"{weights} takes {info.channels} x {info.image_size} images (channels, size), but {dataset.source} has "
            f"{dataset.channels} x {dataset.image_size}."
        )
    if classes and len(dataset.classes) != len(info.classes):
        raise InputError(f"{weights} has {len(info.classes)} classes, but {dataset.source} has {len(dataset.classes)}.")
