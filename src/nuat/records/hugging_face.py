"""Model folders of the Hugging Face hub: ``config.json`` beside weights, read where timm built the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuat.errors import InputError
from nuat.models.timm_networks import TAKEN
from nuat.records.json_values import check, read_object

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceModel:
    """Facts about a model in the configuration of its folder."""

    weights: Path
    """File of the weights."""
    name: str
    """Network, timm:<name>."""
    options: tuple[str, ...]
    """Arguments of its constructor, NAME=VALUE."""
    mean: tuple[float, ...] | None
    """Mean of the normalisation that it expects. None: the folder does not say."""
    std: tuple[float, ...] | None
    """Standard deviation of that normalisation."""
    image_size: tuple[int, int] | None
    """Height and width of the images [pixels]. None: the folder does not say."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits; empty: the folder does not say."""


def is_hugging_face(folder: Path) -> bool:
    """Return whether a folder holds a configuration and weights as on the hub; a run has other weights."""
    try:
        there = {path.name for path in folder.iterdir()}
    except OSError:  # no folder, or it may not be looked into
        return False
    return "config.json" in there and not there.isdisjoint(_WEIGHTS) and "best.safetensors" not in there


def read_hugging_face(folder: Path) -> HuggingFaceModel:
    """Return the facts in the configuration of a folder.

    Raises:
        InputError: its configuration cannot be read, or is not that of a network of timm.
    """
    where = str(folder / "config.json")
    values = read_object(folder / "config.json")
    if "architecture" not in values:
        raise InputError(_not_timm(folder, values))
    name = check(str, values["architecture"], f"{where}: architecture")
    images = values.get("pretrained_cfg", values)  # old folders have one level
    check(dict[str, Any], images, f"{where}: pretrained_cfg")
    mean, std = (_numbers(images, key, where) for key in ("mean", "std"))
    if (mean is None) != (std is None):
        raise InputError(f"{where}: has one of mean and std; a normalisation needs both.")
    size = _numbers(images, "input_size", where)
    names = values.get("label_names", images.get("label_names"))
    return HuggingFaceModel(
        weights=next(folder / file for file in _WEIGHTS if (folder / file).is_file()),
        name=f"timm:{name.partition('.')[0]}",
        options=_options(check(dict[str, Any], values.get("model_args") or {}, f"{where}: model_args"), where),
        mean=mean,
        std=std,
        image_size=None if size is None or len(size) != 3 else (int(size[1]), int(size[2])),
        classes=tuple(check(list[str], names, f"{where}: label_names")) if isinstance(names, list) else (),
    )


def _numbers(values: Mapping[str, Any], key: str, where: str) -> tuple[float, ...] | None:
    found = values.get(key)
    return None if found is None else tuple(check(list[float], found, f"{where}: {key}"))


def _options(arguments: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the arguments of a constructor as settings; those that follow from the images are left out."""
    return tuple(f"{name}={_text(value, name, where)}" for name, value in arguments.items() if name not in TAKEN)


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        return ":".join(map(str, value))
    if isinstance(value, int | float | str):
        return str(value)
    raise InputError(f"{where}: model_args: {name} is neither a number, a word nor a list of numbers; it is {value!r}.")


def _not_timm(folder: Path, values: Mapping[str, Any]) -> str:
    """Return why a folder is refused, and the next step."""
    names = values.get("architectures")
    kind = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else values.get("model_type")
    if not isinstance(kind, str):
        return (
            f"{folder}: config.json names no architecture of timm, so its network is unknown; give the file of the "
            "weights with --model NAME."
        )
    return (
        f"{folder}: a model of transformers ({kind}), whose networks nuat does not build. Return a module whose "
        f"forward pass returns AutoModelForImageClassification.from_pretrained({str(folder)!r})(x).logits from a "
        "function of a Python file, and name file.py:function."
    )
