"""Initial weights of a run: ``model.weights``.

They are read once, when a run starts. A resumed run has its weights in its checkpoint, and shipped weights carry all
that rebuilds their model, so neither needs the file or the download again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nuat.config import ModelConfig
from nuat.core import digest
from nuat.errors import InputError
from nuat.models import Classifier, Normalise, backbones, load_usual_names, unwrapped
from nuat.records import checkpoints
from nuat.records.checkpoints import WeightsInfo


def initialise(
    model: Classifier,
    config: ModelConfig,
    *,
    channels: int,
    image_size: tuple[int, int],
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any] | None:
    """Put the weights that ``config`` names into ``model``, as ``models.build`` returns it.

    The normalisation becomes that of the weights, unless the settings give one. A head of another shape keeps its
    random values; everything else must fit.

    Args:
        model: network, changed in place.
        config: settings that name the weights.
        channels: channels of the images.
        image_size: height and width of the images [pixels].
        say: receives a line about what was taken and what was left out.

    Returns:
        A line for the record, as JSON values. None: the weights stay random.

    Raises:
        InputError: the weights cannot be found or read, or do not fit; the model is unchanged.
    """
    if config.weights == "none":
        return None
    library = backbones.is_backbone(config.name)
    sizes: dict[str, Any] = {"channels": channels, "image_size": image_size}
    file, info, ours = None, None, False
    if config.weights == "pretrained":
        tensors = backbones.download(config, **sizes)
    else:
        file, tensors, info, ours = _read(config.weights)
        if library and not ours:
            tensors = backbones.translated(config, tensors, **sizes)
    if info is not None and info.model.name == config.name and info.model.variant != config.variant:
        raise InputError(  # a ResNet's weights have the same names and shapes in both
            f"model.weights={config.weights}: trained with model.variant={info.model.variant}, not {config.variant}; "
            f"give --model.variant {info.model.variant}."
        )
    statistics = None
    theirs = _normalisation(tensors)
    if config.mean is not None:
        _check_normalisation(config, theirs, ours)
    elif library and not ours and not theirs:
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
    mean = std = None
    by = "no normalisation"
    if isinstance(model.normalise, Normalise):
        mean, std = model.normalise.mean.flatten().tolist(), model.normalise.std.flatten().tolist()
        if any(mean) or any(value != 1.0 for value in std):
            by = f"mean {_numbers(mean)}, std {_numbers(std)}"
    say(f"begins with the weights {file or 'of ' + config.name}, with {by}{left}")
    return {
        "kind": "weights",
        "source": config.weights,
        "sha256": None if file is None else digest.of_file(file),
        "new": list(new),
        "mean": mean,
        "std": std,
    }


def _read(weights: str) -> tuple[Path, Mapping[str, Tensor], WeightsInfo | None, bool]:
    """Return the file, its tensors by name, nuat's metadata if there are any, and whether nuat wrote it."""
    try:
        file = checkpoints.weights_file(Path(weights).expanduser())
        if file.suffix != ".safetensors":
            values = checkpoints.read_torch(file)
            return file, unwrapped(values), None, checkpoints.is_checkpoint(values)
        tensors = checkpoints.read_tensors(file)
    except InputError as error:
        raise InputError(f"model.weights: {error}") from None
    try:
        return file, tensors, checkpoints.read_info(file), True
    except InputError:  # of other origin
        return file, tensors, None, False


def _normalisation(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean and std among the tensors of a network, under any prefix."""
    found = {name.rpartition("normalise.")[2]: tensor for name, tensor in tensors.items() if "normalise." in name}
    return {name: found[name] for name in ("mean", "std") if name in found}


def _check_normalisation(config: ModelConfig, theirs: Mapping[str, Tensor], ours: bool) -> None:
    """Refuse settings that replace the normalisation of the weights."""
    for name, given, without in (("mean", config.mean, 0.0), ("std", config.std, 1.0)):
        if given is None or (name not in theirs and not ours):
            continue
        values = theirs[name].flatten().tolist() if name in theirs else [without] * len(given)
        if len(values) != len(given) or not torch.allclose(torch.tensor(values), torch.tensor(given)):
            raise InputError(
                f"model.{name}={_numbers(given)}: {config.weights} was trained with {_numbers(values)}; leave "
                "model.mean and model.std out, and its own are taken."
            )


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
