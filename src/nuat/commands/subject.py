"""What ``evaluate``, ``diagnose`` and ``analyse`` look at: a run, a weights file, or a stranger's model."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from nuat import data
from nuat.config import DataConfig, ThreatConfig
from nuat.core import digest
from nuat.errors import InputError
from nuat.models import external
from nuat.records import checkpoints
from nuat.records.folder import RunFolder
from nuat.records.settings import read_data_config


@dataclass(frozen=True)
class Subject:
    """What is evaluated, before its images are read."""

    weights: Path | None
    """Its weights file; none: a stranger's model."""
    folder: Path
    """Where results go."""
    stem: str
    """How files about it begin."""
    threat: ThreatConfig
    """What it was trained to withstand, as far as it says so."""
    data: DataConfig
    """Images that it was trained on, as far as it says so."""
    code: str = ""
    """Digest of a stranger's file: what was begun on another version of it is not gone on with."""


def find_subject(arguments: list[str]) -> Subject:
    """Return what the first argument names, or say which options it needs besides."""
    named, helping = arguments[0], "--help" in arguments
    has_images = helping or any(word.startswith(("--data.name", "--data.path")) for word in arguments)
    if external.names_function(named):
        if not helping and not any(re.match(r"--eps(=|$)", word) for word in arguments):
            raise InputError(f"{named} does not say what it withstands; give --eps 8/255, or another radius.")
        if not has_images:
            raise InputError(f"say which images {named} is attacked on: --data.name or --data.path.")
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(named).name)
        file = Path(named.rpartition(":")[0])
        code = digest.of_file(file) if file.is_file() else ""  # a missing file is refused when it is loaded
        return Subject(None, Path(), stem, ThreatConfig(), DataConfig(validation=0), code)
    weights = checkpoints.weights_file(Path(named))
    info = checkpoints.read_info(weights)
    home = RunFolder(weights.parent)
    if home.config.is_file():
        images = read_data_config(home.config)
    elif has_images:
        images = DataConfig(validation=0)  # only the test images are used
    else:
        raise InputError(f"{weights} lies in no run, so say which images to attack: --data.name or --data.path.")
    return Subject(weights, weights.parent, weights.stem, info.threat, images)


def settle_threat(asked: ThreatConfig, trained: ThreatConfig, arguments: list[str]) -> ThreatConfig:
    """Return the ball that is meant where the user names another than the one that the model was trained for.

    The step of PGD, unless given, keeps its ratio to the radius. A radius of one norm says nothing of another, so it
    must be given; the step is then a tenth of it.
    """

    def given(option: str) -> bool:
        return any(re.match(rf"--{option}(=|$)", word) for word in arguments)

    if asked.norm != trained.norm and not given("eps"):
        raise InputError(f"--norm {asked.norm}: give its radius, too, such as --eps 0.5; eps is of {trained.norm}.")
    if given("pgd[-_]alpha") or asked == trained:
        return asked
    share = trained.pgd_alpha / trained.eps if asked.norm == trained.norm else 0.1
    return replace(asked, pgd_alpha=share * asked.eps)


def check_target(path: Path) -> None:
    """Refuse a file that could not be written, before hours pass."""
    if path.is_dir():
        raise InputError(f"--json {path}: is a folder; give the name of a file.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--json {path}: no file can be written in {folder}; choose another --json.")


def check_fits(weights: Path, dataset: data.Dataset) -> None:
    """Refuse images of another shape, or another number of classes, than a weights file is for."""
    info = checkpoints.read_info(weights)
    if (dataset.channels, dataset.image_size) != (info.channels, info.image_size):
        raise InputError(
            f"{weights} takes {info.channels} x {info.image_size} images (channels, size), but {dataset.source} has "
            f"{dataset.channels} x {dataset.image_size}."
        )
    if len(dataset.classes) != len(info.classes):
        raise InputError(f"{weights} has {len(info.classes)} classes, but {dataset.source} has {len(dataset.classes)}.")
