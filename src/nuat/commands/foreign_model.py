"""Models that nuat did not train: weights with a named network, a library's own, TorchScript, ONNX, functions."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nuat import models, own_code
from nuat.config import ForeignNetwork, ModelConfig
from nuat.errors import InputError
from nuat.evaluation.arguments import classes_of
from nuat.models import adapt, backbones, external, hides_variant, load_usual_names
from nuat.models.likely_network import LikelyNetwork
from nuat.models.onnx_model import OnnxModel
from nuat.models.usual_names import likely_network_of, other_shapes
from nuat.records.hugging_face import read_hugging_face
from nuat.records.model_kinds import Kind
from nuat.records.other_files import TORCHSCRIPT
from nuat.training.initial_weights import SourceWeights, read_source

_EXAMPLES = "timm:resnet18, torchvision:resnet18, resnet18, wrn-34-10, ..."


@dataclass(frozen=True)
class ForeignModel:
    """A model that nuat did not train, in evaluation mode."""

    model: nn.Module
    """Images [B, C, H, W] in [0, 1] to logits [B, N]."""
    classes: tuple[str, ...]
    """Names of its classes, in the order of its logits; empty: nothing names them."""
    config: ModelConfig | None
    """Settings that build its network. None: they cannot (TorchScript, ONNX, functions)."""
    note: str
    """Line for the user: the network and normalisation that were assumed; empty: none were."""


def load_foreign(
    named: str,
    kind: Kind,
    asked: ForeignNetwork,
    device: torch.device,
    *,
    channels: int,
    image_size: tuple[int, int],
    classes: int,
) -> ForeignModel:
    """Return the model that a user names, with the user's normalisation as its first layer.

    Args:
        named: file, folder, name or function.
        kind: its kind, other than ``Kind.OURS``.
        asked: network and normalisation that the user gives, which ``check_network`` takes.
        device: device of the model.
        channels: channels of the images.
        image_size: height and width of the images [pixels].
        classes: number of logits, if the weights do not show it.

    Raises:
        InputError: the network is unknown or another one; the file cannot be read or its code does not run; or
            it has a normalisation of its own and the user gives another.
    """
    asked = per_channel(asked, channels)
    if kind in (Kind.WEIGHTS, Kind.HUGGING_FACE, Kind.LIBRARY):
        found = _with_network(named, kind, asked, channels, image_size, classes)
        return replace(found, model=found.model.to(device).eval())
    needed = TORCHSCRIPT if kind is Kind.TORCHSCRIPT else None
    if asked.options or replace(asked, name=None).names_network or asked.name != needed:
        raise InputError(f"{named} brings its network along; leave --model {asked.name or ''} and its options out.")
    match kind:
        case Kind.ONNX:
            model: nn.Module = OnnxModel(Path(named))
        case Kind.TORCHSCRIPT:
            model = _scripted(Path(named))
        case _:
            model = external.load(named, device)
    names = classes_of(model)
    if asked.mean is not None:
        model = adapt(model, mean=asked.mean, std=asked.std)
    note = f"{named}: run by onnxruntime, without gradients, so only black-box attacks say anything of it"
    return ForeignModel(model.to(device).eval(), names, None, note if kind is Kind.ONNX else "")


def check_network(named: str, kind: Kind, asked: ForeignNetwork | None) -> None:
    """Refuse a file that does not say which network it is for, unless the user does.

    Args:
        named: file.
        kind: its kind.
        asked: network that the user gives. None: the command has no option for it.

    Raises:
        InputError: the network is missing; the message names the likely one.
    """
    name = None if asked is None else asked.name
    if kind is Kind.TORCHSCRIPT and name != TORCHSCRIPT:
        raise InputError(
            f"{named}: is a TorchScript archive, which is a program; if you trust it, give --model {TORCHSCRIPT} to "
            "run it."
        )
    if kind is Kind.WEIGHTS and name is None:
        likely = likely_network_of(read_source(ModelConfig(weights=named), channels=3, image_size=(1, 1)).tensors)
        looks = "" if likely is None else f" They look like {likely}."
        options = "--model NAME" if likely is None or likely.name is None else _options(likely)
        way = (
            f"Convert it first: nuat export {named} {options} --format safetensors ...."
            if asked is None
            else f"Give {options} ({_EXAMPLES}), or --model FILE.py:NAME, the class or function that builds it."
        )
        raise InputError(f"{named}: does not say which network its weights are for.{looks} {way}")


def per_channel(asked: ForeignNetwork, channels: int) -> ForeignNetwork:
    """Return the options with one mean and one std per channel.

    Raises:
        InputError: another number of values.
    """
    return replace(asked, mean=_each(asked.mean, "--mean", channels), std=_each(asked.std, "--std", channels))


def check_normalisation(named: str, asked: ForeignNetwork, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuse a normalisation other than the model's own, ``mean`` and ``std``.

    Raises:
        InputError: another mean or std.
    """
    for given, own in ((asked.mean, mean), (asked.std, std)):
        if given is not None and not _close(given, own):
            raise InputError(
                f"--mean and --std: {named} has a normalisation of its own, mean {_text(mean)}, std {_text(std)}; "
                "leave both out."
            )


def _options(likely: LikelyNetwork) -> str:
    return f"--model {likely.name}" + (f" --model.variant {likely.variant}" if likely.variant != "plain" else "")


def _each(values: tuple[float, ...] | None, option: str, channels: int) -> tuple[float, ...] | None:
    """Return one value for each channel."""
    if values is None or len(values) == channels:
        return values
    if len(values) != 1:
        raise InputError(
            f"{option}: {len(values)} values for images of {channels} channels; give one, or one for each."
        )
    return values * channels


def _with_network(
    named: str, kind: Kind, asked: ForeignNetwork, channels: int, image_size: tuple[int, int], classes: int
) -> ForeignModel:
    """Return the model whose network has a name, with its weights."""
    config, names = _named_network(named, kind, asked, channels)
    source = read_source(config, channels=channels, image_size=image_size)
    own = _normalisation(config, source, channels)
    if own is not None:
        check_normalisation(named, asked, *own)
    mean, std = own or (asked.mean, asked.std)
    likely = None if backbones.is_backbone(config.name) else likely_network_of(source.tensors)
    network = own_code.plain(config.name)
    if likely is not None and likely.name == config.name:
        config, network = replace(config, width=likely.width, stem=likely.stem), str(likely)
        if kind is Kind.WEIGHTS and hides_variant(config.name):
            network = f"{str(likely).removesuffix(')')}; variant {config.variant}, which the weights do not show)"
    config = replace(config, mean=mean, std=std, weights="none")
    try:
        model = _loaded(config, source, channels, image_size, classes)
    except InputError as error:
        raise InputError(f"{named} as {own_code.plain(config.name)}: {error}") from None
    scaling = "no normalisation" if mean is None or std is None else f"mean {_text(mean)}, std {_text(std)}"
    return ForeignModel(model, names, config, f"{named}: {network}, with {scaling}")


def _named_network(named: str, kind: Kind, asked: ForeignNetwork, channels: int) -> tuple[ModelConfig, tuple[str, ...]]:
    """Return the settings of the network with the place of its weights, and the names of its classes."""
    if kind is not Kind.WEIGHTS and asked.names_network:
        raise InputError(f"{named} says which network it is for; leave --model, its variant and activation out.")
    match kind:
        case Kind.WEIGHTS:
            assert asked.name is not None  # check_network
            name = own_code.pin(asked.name)
            config = ModelConfig(name=name, weights=named, variant=asked.variant, activation=asked.activation)
            return replace(config, options=asked.options), ()
        case Kind.LIBRARY:
            return ModelConfig(name=named, weights="pretrained", options=asked.options), ()
        case _:
            folder = read_hugging_face(Path(named))
            mean, std = (_each(values, f"{named}: mean", channels) for values in (folder.mean, folder.std))
            config = ModelConfig(
                name=folder.name,
                weights=str(folder.weights),
                mean=mean,
                std=std,
                options=(*folder.options, *asked.options),
            )
            return config, folder.classes


def _normalisation(
    config: ModelConfig, source: SourceWeights, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std that the weights bring along. None: nothing says which."""
    theirs = {name: tuple(tensor.flatten().tolist()) for name, tensor in source.normalisation.items()}
    if len(theirs) == 2:
        return theirs["mean"], theirs["std"]
    if config.weights == "pretrained":
        return backbones.statistics(config.name, channels)
    return None if config.mean is None or config.std is None else (config.mean, config.std)


def _loaded(
    config: ModelConfig, source: SourceWeights, channels: int, image_size: tuple[int, int], classes: int
) -> nn.Module:
    """Return the network with its weights, and with as many logits as these have.

    Raises:
        InputError: the network cannot be built, the weights do not fit, or hold no last layer.
    """

    def build(logits: int) -> models.Classifier:
        with torch.random.fork_rng(devices=[]):
            return models.build(config, channels=channels, classes=logits, image_size=image_size)

    model = build(classes)
    head = [f"net.{name}" for name in backbones.head(model.net)]
    shapes = other_shapes(model, source.tensors, head)
    if shapes:
        missing = [name.removeprefix("net.") for name, shape in shapes.items() if not shape]
        if missing:
            raise InputError(f"the weights lack the last layer ({', '.join(missing)}), so they classify nothing.")
        model = build(next(shape[0] for shape in shapes.values() if shape))
    load_usual_names(model, source.tensors)
    return model


def _scripted(path: Path) -> nn.Module:
    """Return the program in a TorchScript archive."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises its authors to move on from TorchScript
            model: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged archive fails in many ways
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: TorchScript cannot read it ({reason[:300]}).") from None
    return model


def _close(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and torch.allclose(torch.tensor(values), torch.tensor(others), atol=1e-6)


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
