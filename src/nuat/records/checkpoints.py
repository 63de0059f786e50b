"""Checkpoints of the full state, to resume from, and weights, to ship.

A checkpoint is a dictionary of tensors, numbers, strings and dictionaries of these; it is read with
``weights_only=True``, so a hostile file cannot run code. Shipped weights are safetensors whose metadata hold what is
needed to rebuild the model.
"""

import json
import warnings
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
from nuat.errors import InputError, did_you_mean
from nuat.files import atomic_write
from nuat.records.named_weights import NAMED, fetch, is_named
from nuat.records.trained_classifier import TrainedClassifier

CHECKPOINT_FORMAT = 1
_WEIGHTS_FORMAT = 1
_METADATA_KEY = "nuat"
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
    """Whether they are the weight average."""
    data: str
    """Where the training images came from."""
    resize: int | None = None
    """Side [pixels] that the shorter side of an image is resized to before its centre is cut out. None: that of the
    images."""
    interpolation: str = "bicubic"
    """Interpolation of that resizing, antialiased."""
    crop: str = "centre"
    """Part of the resized image that the model sees."""
    pixel_range: tuple[float, float] = (0.0, 1.0)
    """Range of the pixels that the model takes; normalisation is inside the model."""
    nuat_version: str = hardware.NUAT_VERSION
    """Version that wrote the file."""

    def build(self) -> TrainedClassifier:
        """Return the network with fresh weights, without disturbing torch's global generator."""
        with torch.random.fork_rng(devices=[]):
            network = models.build(
                self.model, channels=self.channels, classes=len(self.classes), image_size=self.image_size
            )
        return TrainedClassifier(network, self)


def save_weights(path: Path, weights: dict[str, Tensor], info: WeightsInfo) -> None:
    """Write ``weights`` (as of ``state_dict``) with their metadata as safetensors to ``path``, whole."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # a single entry: safetensors writes several in a random order, and equal weights should be equal files
    metadata = {_METADATA_KEY: json.dumps({"format": _WEIGHTS_FORMAT, **asdict(info)})}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, metadata))


def read_info(path: Path) -> WeightsInfo:
    """Return the metadata of a weights file.

    Raises:
        InputError: no such file, not safetensors, truncated, or without our metadata.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file, or cut off ({error}).") from None
    try:
        values = json.loads(metadata[_METADATA_KEY])
        if values.pop("format") != _WEIGHTS_FORMAT:
            raise InputError("written in another format than this version of nuat reads; update nuat.")
        values["model"] = ModelConfig(**_tuples(values["model"]))
        values["threat"] = ThreatConfig(**values["threat"])
        info = WeightsInfo(**_tuples(values))
        if (info.interpolation, info.crop, info.pixel_range) != _PREPROCESSING:
            raise InputError("its images are prepared in another way than this version of nuat can; update nuat.")
        if not all(isinstance(number, int) for number in (info.channels, *info.image_size)):
            raise TypeError("channels and image size are whole numbers")
        return info
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            f"{path}: its metadata do not say how to build the model, so it was not written by nuat; "
            "load it into a model of your own with nuat.load(path, model=...)."
        ) from None


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@overload
def load(path: Path | str, *, model: None = None, device: torch.device | str = "cpu") -> TrainedClassifier: ...


@overload
def load(path: Path | str, *, model: nn.Module, device: torch.device | str = "cpu") -> nn.Module: ...


def load(path: Path | str, *, model: nn.Module | None = None, device: torch.device | str = "cpu") -> nn.Module:
    """Return the model of a run or of a weights file, in evaluation mode on ``device``.

    Args:
        path: a run's folder (its best weights are taken), a .safetensors file, a .pt/.pth file that holds a state dict,
            or the name of shipped weights, such as "quickstart"; ``nuat models`` lists them.
        model: a model of your own that the weights are loaded into, for files that nuat did not write; parameter
            names may carry the usual prefixes. None: the model is rebuilt from the file's metadata; it has ``classes``,
            ``transform`` and ``predict``.
        device: where the model goes.

    Raises:
        InputError: no such file, truncated or hostile file, weights of another architecture.

    Example:
        >>> import nuat, torch
        >>> model = nuat.load("quickstart")
        >>> model(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
    """
    file = weights_file(Path(path))
    if file.suffix in (".pt", ".pth"):
        if model is None:
            raise InputError(f"{file}: a state dict does not say which network it is for; pass model=....")
        models.load_usual_names(model, read_torch(file))
    else:
        if model is None:
            model = read_info(file).build()
        models.load_usual_names(model, read_tensors(file))
    return model.to(device).eval()


def weights_file(path: Path) -> Path:
    """Return the file of weights that ``path`` means: itself, the best weights of a run's folder, or named weights."""
    if is_named(str(path)):
        path = fetch(str(path))
    if path.is_dir():
        file = path / "best.safetensors"
        if not file.is_file():
            raise InputError(f"{path}: no best.safetensors in this folder, so it is no run that got past an epoch.")
        return file
    if not path.is_file():
        raise InputError(f"{path}: no such run or weights file.{did_you_mean(str(path), NAMED)}")
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file by name, on the CPU. Raises InputError where it cannot be read."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file, or cut off ({error}).") from None


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a full state to ``path``, whole."""
    with atomic_write(path) as file:
        try:
            torch.save({"format": CHECKPOINT_FORMAT, **state}, file)
        except RuntimeError as error:
            # where the file fails (a full disk), torch fails once more on closing its archive and hides the cause
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a full state on the CPU.

    Raises:
        InputError: no such file, a truncated or hostile file, one of another format.
    """
    state = read_torch(path)
    if state.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{path}: not a checkpoint that this version of nuat reads (format {CHECKPOINT_FORMAT}).")
    return state


def is_checkpoint(values: Mapping[str, Any]) -> bool:
    """Return whether these are the values of a ``save_checkpoint``."""
    return {"format", "model", "optimizer", "defense", "metrics_bytes"} <= values.keys()


def read_torch(path: Path) -> dict[str, Any]:
    """Return the dictionary in a file of ``torch.save``, on the CPU, refusing everything that could run code."""
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the unpickler, on a file that is then refused
            values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many kinds on a damaged or hostile file
        # the first sentence: torch's next ones advise to load the file without this protection
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise InputError(
            f"{path}: cut off, damaged, or holding more than plain tensors; not loaded ({reason})."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a dictionary of tensors; it holds a {type(values).__name__}.")
    return values
