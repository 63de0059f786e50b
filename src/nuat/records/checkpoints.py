"""Checkpoints of the full state, to resume from, and weights, to ship.

A checkpoint is a dictionary of tensors, numbers, strings and dictionaries of these; it is read with
``weights_only=True``, so a hostile file cannot run code. Shipped weights are safetensors whose metadata hold what is
needed to rebuild the model. Both carry checksums, which are verified when they are read.
"""

import argparse
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nuat import hardware, models
from nuat.config import ModelConfig, ThreatConfig
from nuat.core import digest
from nuat.errors import InputError, did_you_mean
from nuat.evaluation.calibration import check_temperature
from nuat.files import atomic_write
from nuat.records.json_values import check, parse_object, settings_object
from nuat.records.named_weights import NAMED, fetch, is_named
from nuat.records.other_files import SAFE_WAY, TORCHSCRIPT, is_torch, is_torchscript, refuse_other_files
from nuat.records.trained_classifier import TrainedClassifier

CHECKPOINT_FORMAT = 1
_WEIGHTS_FORMAT = 1
_METADATA_KEY = "nuat"
_CHECKSUMS = "checksums"
_PREPROCESSING = ("bicubic", "centre", (0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """Metadata of shipped weights."""

    model: ModelConfig
    """Network and normalisation."""
    channels: int
    """Channels C of the images."""
    image_size: tuple[int, int]
    """Height and width [pixels] of the images."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the logits."""
    threat: ThreatConfig
    """Threat model that the model was trained for."""
    recipe: str
    """Recipe that trained it."""
    epoch: int
    """Epochs that these weights have been trained for."""
    averaged: bool
    """Whether they are a weight average."""
    data: str
    """Where the training images came from."""
    resize: int | None = None
    """Side [pixels] that the shorter side is resized to before the centre is cut out. None: that of the images."""
    interpolation: str = "bicubic"
    """Interpolation of that resizing, antialiased."""
    crop: str = "centre"
    """Part of the resized image that the model sees."""
    pixel_range: tuple[float, float] = (0.0, 1.0)
    """Range of the pixels that the model takes; normalisation is inside the model."""
    temperature: float = 1.0
    """Temperature of the probabilities, softmax(logits / temperature). The logits, and so the answers, are without."""
    tau: float | None = None
    """Decay of that average; None: not recorded, or none."""
    nuat_version: str = hardware.NUAT_VERSION
    """Version that wrote the file."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature, "temperature")

    def build(self) -> TrainedClassifier:
        """Return the network with fresh weights, without disturbing torch's global generator."""
        with torch.random.fork_rng(devices=[]):
            network = models.build(
                self.model, channels=self.channels, classes=len(self.classes), image_size=self.image_size
            )
        return TrainedClassifier(network, self)


def save_weights(path: Path, weights: dict[str, Tensor], info: WeightsInfo) -> None:
    """Write ``weights`` (as of ``state_dict``), their metadata and checksums as safetensors to ``path``, whole."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    values = {"format": _WEIGHTS_FORMAT, **asdict(info)}
    if info.temperature == 1.0:
        del values["temperature"]  # so that older versions read the file, too
    values[_CHECKSUMS] = {"metadata": _digest_of_values(values), "tensors": _digest_of_weights(tensors)}
    # a single entry: safetensors writes several in a random order, and equal weights should be equal files
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, {_METADATA_KEY: json.dumps(values)}))


def read_info(path: Path) -> WeightsInfo:
    """Return the metadata of a weights file.

    Raises:
        InputError: there is no such file, it is not safetensors, it is cut off or damaged, or nuat did not write it.
    """
    values = _metadata(path)
    if values is None:
        raise InputError(
            f"{path}: its metadata do not say how to build the model, so it was not written by nuat; load it into a "
            "model of your own with nuat.load(path, model=...)."
        )
    where = f"{path}: metadata"
    values.pop(_CHECKSUMS, None)
    if values.pop("format", None) != _WEIGHTS_FORMAT:
        raise InputError(f"{path}: written in another format than this version of nuat reads; update nuat.")
    model, threat = (values.pop(name, None) for name in ("model", "threat"))
    info = {
        "model": settings_object(ModelConfig, model, f"{where}: model"),
        "threat": settings_object(ThreatConfig, threat, f"{where}: threat"),
    }
    found = settings_object(WeightsInfo, values, where, **info)
    if (found.interpolation, found.crop, found.pixel_range) != _PREPROCESSING:
        raise InputError(f"{path}: its images are prepared in another way than this version of nuat can; update nuat.")
    return found


def is_ours(path: Path) -> bool:
    """Return whether nuat wrote a .safetensors file.

    Raises:
        InputError: it cannot be read, is of another format, cut off or damaged.
    """
    return _metadata(path) is not None


def _metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata that nuat wrote into a weights file, checked by its checksum; None: there is none."""
    refuse_other_files(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise _not_safetensors(path, error) from None
    if text is None:
        return None
    values = parse_object(text, f"{path}: metadata")
    checksums = values.get(_CHECKSUMS)  # files of older versions have none
    if checksums is not None:
        check(dict[str, str], checksums, f"{path}: metadata: {_CHECKSUMS}")
        plain = {name: value for name, value in json.loads(text).items() if name != _CHECKSUMS}
        if checksums.get("metadata") != _digest_of_values(plain):
            raise _damaged(path)
    return values


def _digest_of_values(values: Mapping[str, Any]) -> str:
    return digest.of_tensors(settings=json.dumps(values, sort_keys=True))


def _digest_of_weights(tensors: Mapping[str, Tensor]) -> str:
    shapes = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in sorted(tensors)]
    return digest.of_tensors(*(tensors[name] for name in sorted(tensors)), settings=json.dumps(shapes))


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: damaged, its content does not match the checksum that it was written with; copy it again."
    )


def _not_safetensors(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(f"{path}: not a readable safetensors file, or cut off ({reason}).")


@overload
def load(path: Path | str, *, model: None = None, device: torch.device | str = "cpu") -> TrainedClassifier: ...


@overload
def load(path: Path | str, *, model: nn.Module, device: torch.device | str = "cpu") -> nn.Module: ...


def load(path: Path | str, *, model: nn.Module | None = None, device: torch.device | str = "cpu") -> nn.Module:
    """Return the model of a run or of a weights file, in evaluation mode on ``device``.

    Args:
        path: a run's folder (its best weights are taken), a .safetensors file, a file of ``torch.save`` that holds a
            state dict, or the name of shipped weights, such as "quickstart"; ``nuat models`` lists them.
        model: a model of your own that the weights are loaded into, for files that nuat did not write; parameter
            names may carry the usual prefixes. None: the model is rebuilt from the file's metadata; it has ``classes``,
            ``transform`` and ``predict``.
        device: where the model goes.

    Raises:
        InputError: there is no such file, it is damaged or hostile, or the weights do not fit.

    Example:
        >>> import nuat, torch
        >>> model = nuat.load("quickstart")
        >>> model(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
    """
    file = weights_file(Path(path))
    if is_torch(file):
        if model is None:
            raise InputError(f"{file}: a state dict does not say which network it is for; pass model=....")
        models.load_usual_names(model, read_torch(file))
    else:
        if model is None:
            model = _build(read_info(file), file)
        models.load_usual_names(model, read_tensors(file))
    return model.to(device).eval()


def _build(info: WeightsInfo, path: Path) -> TrainedClassifier:
    """Return the network of a file's metadata, or one line if the metadata describe an impossible one."""
    try:
        return info.build()
    except (RuntimeError, MemoryError, OverflowError, TypeError, ValueError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        raise InputError(f"{path}: its metadata describe a network that cannot be built ({reason[:300]}).") from None


def weights_file(path: Path) -> Path:
    """Return the weights file that ``path`` means: itself, the best weights of a run's folder, or named weights."""
    if is_named(str(path)):
        path = fetch(str(path))
    try:
        if path.is_dir():
            file = path / "best.safetensors"
            if not file.is_file():
                raise InputError(
                    f"{path}: no best.safetensors in this folder: no epoch was finished, or the weights were left out."
                )
            return file
        if path.is_file():
            return path
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    raise InputError(f"{path}: no such run or weights file.{did_you_mean(str(path), NAMED)}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file by name, on the CPU, checked by their checksum if there is one.

    Raises:
        InputError: the file cannot be read or is damaged.
    """
    values = _metadata(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise _not_safetensors(path, error) from None
    checksums = None if values is None else values.get(_CHECKSUMS)
    if checksums is not None and checksums.get("tensors") != _digest_of_weights(tensors):
        raise _damaged(path)
    return tensors


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a full state to ``path``, whole."""
    with atomic_write(path) as file:
        try:
            torch.save({"format": CHECKPOINT_FORMAT, **state}, file)
        except RuntimeError as error:
            # if the file fails (a full disk), torch fails again on closing its archive and hides the cause
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a full state on the CPU.

    Raises:
        InputError: there is no such file, it is damaged or hostile, or of another format.
    """
    state = read_torch(path)
    if state.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{path}: not a checkpoint that this version of nuat reads (format {CHECKPOINT_FORMAT}).")
    return state


def is_checkpoint(values: Mapping[str, Any]) -> bool:
    """Return whether these are the values of a file of ``save_checkpoint``."""
    return {"format", "model", "optimizer", "defense", "metrics_bytes"} <= values.keys()


def read_torch(path: Path) -> dict[str, Any]:
    """Return the dictionary in a file of ``torch.save``, on the CPU, refusing everything that could run code.

    Such a file holds a checksum (CRC-32) of each of its parts, which are checked.

    Raises:
        InputError: there is no such file, it is damaged, or holds more than tensors, numbers, texts and dictionaries.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the unpickler's, on a file that is then refused
            # training scripts often save their arguments beside the weights; a Namespace holds values and runs nothing
            with torch.serialization.safe_globals([argparse.Namespace]):
                values = torch.load(path, map_location="cpu", weights_only=True)
        _check_parts(path)
    except InputError:
        raise
    except Exception as error:  # the unpickler raises many kinds on a damaged or hostile file
        said = " ".join(str(error).split()) or type(error).__name__
        if found := re.search(r"(?:GLOBAL|class|global) ([A-Za-z_][\w.]*\.[\w.]+)", said):
            raise InputError(
                f"{path}: holds a pickled {found[1].rstrip('.')}, which could run code; not loaded. {SAFE_WAY}"
            ) from None
        if is_torchscript(path):
            raise InputError(
                f"{path}: a TorchScript archive, which is a program; not loaded. Load it with torch.jit.load, or give "
                f"nuat evaluate --model {TORCHSCRIPT}."
            ) from None
        # the first sentence: torch's next ones advise to load the file without this protection
        reason = said.partition(". ")[0]
        raise InputError(
            f"{path}: cut off, damaged, or holding more than plain tensors; not loaded ({reason})."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a dictionary of tensors; it holds a {type(values).__name__}.")
    return values


def _check_parts(path: Path) -> None:
    """Refuse a file of ``torch.save`` of which a part does not have its checksum, which torch does not look at.

    If no part has it, the file was written without checksums.
    """
    if not zipfile.is_zipfile(path):
        return  # the format before torch 1.6 has none
    bad = 0
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
        for part in parts:
            try:
                with file.open(part) as content:
                    while content.read(2**20):
                        pass
            except zipfile.BadZipFile:
                bad += 1
    if 0 < bad < len(parts):
        raise _damaged(path)
