"""Initial weights of a run: ``model.weights``.

They are read once, when a run starts. A resumed run has its weights in its checkpoint, and shipped weights carry all
that rebuilds their model, so neither needs the file or the download again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nuat.config import ModelConfig
from nuat.core import digest
from nuat.errors import InputError
from nuat.models import Classifier, Normalise, backbones, hides_variant, load_usual_names, unwrapped
from nuat.records import checkpoints
from nuat.records.checkpoints import WeightsInfo


@dataclass(frozen=True, kw_only=True)
class SourceWeights:
    """Weights that a network begins with."""

    tensors: Mapping[str, Tensor]
    """Tensors by name."""
    file: Path | None = None
    """File that holds them. None: they are a library's own."""
    info: WeightsInfo | None = None
    """Metadata that nuat wrote. None: there are none."""
    ours: bool = False
    """Whether nuat wrote the file."""

    @property
    def normalisation(self) -> dict[str, Tensor]:
        """Mean and std among the tensors, under any prefix; empty: there are none."""
        marks = ("normalise.", "normalizer.new_")  # ours, and that of Madry's robustness package
        found = {
            name.rpartition(mark)[2]: tensor for name, tensor in self.tensors.items() for mark in marks if mark in name
        }
        return {name: found[name] for name in ("mean", "std") if name in found}


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
    try:
        source = read_source(config, channels=channels, image_size=image_size)
    except InputError as error:
        given = "=pretrained" if config.weights == "pretrained" else ""
        raise InputError(f"model.weights{given}: {error}") from None
    file, info, ours = source.file, source.info, source.ours
    if info is not None and info.model.name == config.name:
        for name in ("variant", "activation"):  # a ResNet's weights have the same names and shapes in all
            trained, wanted = getattr(info.model, name), getattr(config, name)
            if trained != wanted:
                raise InputError(
                    f"model.weights={config.weights}: trained with model.{name}={trained}, not {wanted}; give "
                    f"--model.{name} {trained}."
                )
    statistics = None
    if config.mean is not None:
        _check_normalisation(config, source)
    elif backbones.is_backbone(config.name) and not ours and not source.normalisation:
        statistics = backbones.statistics(config.name, channels)
    head = [f"net.{name}" for name in backbones.head(model.net)]
    try:
        new = load_usual_names(model, source.tensors, may_differ=head)
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
    if info is None and hides_variant(config.name):
        by += f", as variant {config.variant}, which they do not show"
    say(f"begins with the weights {file or 'of ' + config.name}, with {by}{left}")
    return {
        "kind": "weights",
        "source": config.weights,
        "sha256": None if file is None else digest.of_file(file),
        "new": list(new),
        "mean": mean,
        "std": std,
    }


def read_source(config: ModelConfig, *, channels: int, image_size: tuple[int, int]) -> SourceWeights:
    """Return the weights that ``config`` names, as its network names its parameters.

    Args:
        config: settings that name the network and the weights.
        channels: channels of the images.
        image_size: height and width of the images [pixels].

    Raises:
        InputError: the weights cannot be found, downloaded or read.
    """
    sizes: dict[str, Any] = {"channels": channels, "image_size": image_size}
    if config.weights == "pretrained":
        return SourceWeights(tensors=backbones.download(config, **sizes))
    source = _read(config.weights)
    if backbones.is_backbone(config.name) and not source.ours:
        return replace(source, tensors=backbones.translated(config, source.tensors, **sizes))
    return source


def _read(weights: str) -> SourceWeights:
    file = checkpoints.weights_file(Path(weights).expanduser())
    if file.suffix != ".safetensors":
        values = checkpoints.read_torch(file)
        return SourceWeights(file=file, tensors=unwrapped(values), ours=checkpoints.is_checkpoint(values))
    tensors = checkpoints.read_tensors(file)
    try:
        return SourceWeights(file=file, tensors=tensors, info=checkpoints.read_info(file), ours=True)
    except InputError:  # of other origin
        return SourceWeights(file=file, tensors=tensors)


def _check_normalisation(config: ModelConfig, source: SourceWeights) -> None:
    """Refuse settings that replace the normalisation of the weights."""
    theirs = source.normalisation
    for name, given, without in (("mean", config.mean, 0.0), ("std", config.std, 1.0)):
        if given is None or (name not in theirs and not source.ours):
            continue
        values = theirs[name].flatten().tolist() if name in theirs else [without] * len(given)
        if len(values) != len(given) or not torch.allclose(torch.tensor(values), torch.tensor(given)):
            raise InputError(
                f"model.{name}={_numbers(given)}: {config.weights} was trained with {_numbers(values)}; leave "
                "model.mean and model.std out, and its own are taken."
            )


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
