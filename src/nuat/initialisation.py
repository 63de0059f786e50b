"""The weights that a run begins with: ``model.weights``.

They are read once, when a run starts. A run that goes on has its weights in its checkpoint, and shipped weights carry
everything that rebuilds their model, so neither needs the file or the download again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nuat import checkpoints, digest
from nuat.checkpoints import WeightsInfo
from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import Classifier, Normalise, backbones, load_usual_names, unwrapped


def initialise(
    model: Classifier,
    config: ModelConfig,
    *,
    channels: int,
    image_size: tuple[int, int],
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any] | None:
    """Put the weights that ``config`` names into ``model``, which ``models.build`` made of it.

    The normalisation becomes the one that the weights were trained with, unless the settings give one. A head whose
    shape differs keeps its random values; everything else must fit.

    Args:
        model: what is changed; its images have ``channels`` channels and ``image_size`` = (H, W) pixels.
        config: names the weights.
        say: is told, in a line, what was taken and what was not.

    Returns:
        A line for the run's record, as JSON values; none where the weights stay random.

    Raises:
        InputError: the weights cannot be had or read, or do not fit; the model is then as it was.
    """
    if config.weights == "none":
        return None
    library = backbones.is_backbone(config.name)
    sizes: dict[str, Any] = {"channels": channels, "image_size": image_size}
    file, info = None, None
    if config.weights == "pretrained":
        tensors = backbones.download(config, **sizes)
    else:
        file, tensors, info = _read(config.weights)
        if library and info is None:
            tensors = backbones.translated(config, tensors, **sizes)
    statistics = None
    if config.mean is not None:
        _check_normalisation(config, tensors)
    elif library and info is None:
        statistics = backbones.statistics(config.name, channels)
    head = [f"net.{name}" for name in backbones.head(model.net)]
    try:
        new = load_usual_names(model, tensors, may_differ=head)
    except InputError as error:
        holds = f" They are of {info.model.name}." if info is not None and info.model.name != config.name else ""
        raise InputError(f"model.weights={config.weights} for model.name={config.name}: {error}{holds}") from None
    if statistics is not None and isinstance(model.normalise, Normalise):
        model.normalise.set(*statistics)
    new = tuple(name.removeprefix("net.") for name in new)
    left = f"; the head is new ({', '.join(new)})" if new else ""
    say(f"begins with the weights {file or 'of ' + config.name}{left}")
    return {
        "kind": "weights",
        "source": config.weights,
        "sha256": None if file is None else digest.of_file(file),
        "new": list(new),
        "mean": model.normalise.mean.flatten().tolist() if isinstance(model.normalise, Normalise) else None,
        "std": model.normalise.std.flatten().tolist() if isinstance(model.normalise, Normalise) else None,
    }


def _read(weights: str) -> tuple[Path, Mapping[str, Tensor], WeightsInfo | None]:
    """Return the file, its tensors by name, and what nuat wrote into it, if nuat did."""
    try:
        file = checkpoints.weights_file(Path(weights).expanduser())
        if file.suffix != ".safetensors":
            return file, unwrapped(checkpoints.read_torch(file)), None
        tensors = checkpoints.read_tensors(file)
    except InputError as error:
        raise InputError(f"model.weights: {error}") from None
    try:
        return file, tensors, checkpoints.read_info(file)
    except InputError:  # of other origin
        return file, tensors, None


def _check_normalisation(config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse to replace the normalisation that a file carries by another."""
    for name, ours in (("mean", config.mean), ("std", config.std)):
        theirs = tensors.get(f"normalise.{name}")
        if theirs is None or ours is None:
            continue
        wanted = torch.tensor(ours, dtype=theirs.dtype)
        if theirs.numel() != len(ours) or not torch.allclose(theirs.flatten(), wanted):
            values = ",".join(f"{value:g}" for value in theirs.flatten().tolist())
            raise InputError(
                f"model.{name}={','.join(f'{value:g}' for value in ours)}: {config.weights} was trained with {values}; "
                "leave model.mean and model.std out, and its own are taken."
            )
