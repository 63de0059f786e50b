"""Networks that take images in [0, 1] and return logits; normalisation is a layer inside."""

import difflib
import re
from typing import Any

from torch import nn

from nuat import own_code
from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import backbones, external
from nuat.models.adapters import Classifier, adapt, has_batch_norm
from nuat.models.authors import AuthorsBasicBlock, AuthorsWideResNet
from nuat.models.mnist_cnn import MNISTCNN
from nuat.models.normalisation import Normalise
from nuat.models.resnet import BasicBlock, ResNet, resnet18, resnet34, resnet50
from nuat.models.sizes import check_counts
from nuat.models.small_cnn import SmallCNN
from nuat.models.synchronised import synchronise_batch_norm
from nuat.models.usual_names import load_usual_names
from nuat.models.wide_resnet import WideResNet
from nuat.models.wrappings import unwrapped

__all__ = [
    "MNISTCNN",
    "MODEL_NAMES",
    "Classifier",
    "Normalise",
    "ResNet",
    "SmallCNN",
    "WideResNet",
    "adapt",
    "build",
    "has_batch_norm",
    "load_usual_names",
    "resnet18",
    "resnet34",
    "resnet50",
    "synchronise_batch_norm",
    "unwrapped",
]

MODEL_NAMES: tuple[str, ...] = (
    *("small-cnn", "mnist-cnn", "resnet18", "resnet34", "resnet50", "wrn-<depth>-<k>"),
    *("torchvision:<name>", "timm:<name>"),
)
"""Values of ModelConfig.name, such as wrn-34-10, torchvision:resnet50 or timm:convnext_tiny; and pinned names of own
code (``nuat.own_code.pin("my.py:make_net")``)."""


def build(config: ModelConfig, *, channels: int, classes: int, image_size: tuple[int, int]) -> Classifier:
    """Build the network that ``config`` names, with random weights from torch's global generator.

    ``config.weights`` are not read here: ``nuat.training.initial_weights`` does that when a run begins. If they are
    given, the network gets a normalisation layer that is the identity until theirs is loaded.

    Args:
        config: settings of the network.
        channels: channels C of the images.
        classes: number of classes N.
        image_size: height and width of the images [pixels].

    Returns:
        A module from images [B, C, H, W] in [0, 1] to logits [B, N].

    Raises:
        InputError: the name is unknown, a setting has no effect on that network, or mean, std or a size does not fit.

    Example:
        >>> from nuat.config import ModelConfig
        >>> from nuat.models import build
        >>> import torch
        >>> net = build(ModelConfig(name="resnet18", width=8), channels=3, classes=10, image_size=(32, 32))
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    check_counts(channels=channels, classes=classes, height=image_size[0], width=image_size[1])
    if config.mean is not None and config.std is not None and {len(config.mean), len(config.std)} != {channels}:
        raise InputError(
            f"model.mean has {len(config.mean)} values and model.std has {len(config.std)}: the images have "
            f"{channels} channels; give one value per channel."
        )
    mean, std = config.mean, config.std
    if mean is None and config.weights != "none":
        mean, std = (0.0,) * channels, (1.0,) * channels
    return adapt(_network(config, channels, classes, image_size), mean=mean, std=std)


def has_variant(name: str) -> bool:
    """Tell whether the paper's authors have a variant of the network, ``model.variant=nuat``."""
    return name in ("resnet18", "resnet34") or name.startswith("wrn-")


def hides_variant(name: str) -> bool:
    """Tell whether weights of the network have the same names and shapes in both variants."""
    return has_variant(name) and not name.startswith("wrn-")


def _network(config: ModelConfig, channels: int, classes: int, image_size: tuple[int, int]) -> nn.Module:
    name, width, stem = config.name, config.width, config.stem
    authors = config.variant == "nuat"
    if authors and not has_variant(name):
        raise InputError(
            f"model.variant=nuat has no effect on {name}: the authors' networks are resnet18, resnet34 and "
            "wrn-<depth>-<k>; leave it out."
        )
    activation = config.activation
    if activation != "relu" and authors:
        raise InputError(
            f"model.activation={activation} has no effect on model.variant=nuat, whose networks have ReLUs of their "
            "own; leave it out or give model.variant=plain."
        )
    if activation != "relu" and (own_code.is_pinned(name) or backbones.is_backbone(name)):
        raise InputError(
            f"model.activation={activation} has no effect on {own_code.plain(name)}, which has its own; leave it out."
        )
    block = AuthorsBasicBlock if authors else BasicBlock
    if own_code.is_named(name):
        raise InputError(f"model.name={name}: names code; give model.name=nuat.own_code.pin({name!r}) to run it.")
    if own_code.is_pinned(name):
        return external.build(config, channels=channels, classes=classes, image_size=image_size)
    if backbones.is_backbone(name):
        return backbones.build(config, channels=channels, classes=classes, image_size=image_size)
    if config.options:
        raise InputError(
            f"model.options={','.join(config.options)} has no effect on {name}: only torchvision: and timm: networks "
            "take options."
        )
    if stem is not None and (name in ("small-cnn", "mnist-cnn") or name.startswith("wrn-")):
        raise InputError(f"model.stem={stem} has no effect on {name}; leave it out or choose a resnet.")
    # ModelConfig documents this choice: the ImageNet stem would shrink small images to a point.
    stem = stem or ("cifar" if max(image_size) <= 64 else "imagenet")
    sizes: dict[str, Any] = {"in_channels": channels, "classes": classes, "stem": stem, "width": width or 64}
    match name:
        case "small-cnn":
            return SmallCNN(channels, classes, image_size, width or 16, activation)
        case "mnist-cnn":
            return MNISTCNN(channels, classes, image_size, width or 32, activation)
        case "resnet18":
            return resnet18(**sizes, activation=activation, block=block)
        case "resnet34":
            return resnet34(**sizes, activation=activation, block=block)
        case "resnet50":
            return resnet50(**sizes, activation=activation)
    if wide := re.fullmatch(r"wrn-(\d{1,4})-(\d{1,3})", name):
        if width is not None:
            raise InputError(f"model.width={width} has no effect on {name}, whose last number is its width.")
        size = (int(wide[1]), int(wide[2]), channels, classes)
        return AuthorsWideResNet(*size) if authors else WideResNet(*size, activation)
    nearest = difflib.get_close_matches(name.lower(), [*MODEL_NAMES[:-3], "wrn-34-10", "wrn-28-10"], n=1, cutoff=0.0)
    raise InputError(
        f"model.name={name!r} is not a known network; did you mean {nearest[0]}? Known: {', '.join(MODEL_NAMES)}."
    )
