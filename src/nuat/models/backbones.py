"""Networks of torchvision and timm by name: ``torchvision:resnet50``, ``timm:convnext_tiny``.

The head is made for the data set's classes. Constructors that take an image size get the data set's. timm's networks
take any number of channels. torchvision's take three, so the channel of grey images is repeated inside the model.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nuat.config import ModelConfig
from nuat.errors import InputError
from nuat.models import timm_networks, torchvision_networks
from nuat.models.options import parse_options

_LIBRARIES: dict[str, ModuleType] = {"timm": timm_networks, "torchvision": torchvision_networks}


class Grey(nn.Module):
    """Network for colour images that is given grey ones [B, 1, H, W], their channel repeated three times."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, 1, H, W]."""
        logits: Tensor = self.net(x.expand(-1, 3, -1, -1))
        return logits


def is_backbone(name: str) -> bool:
    """Return whether ``name`` has a library's prefix, known to that library or not."""
    return name.partition(":")[0] in _LIBRARIES and ":" in name


def build(config: ModelConfig, *, channels: int, classes: int, image_size: tuple[int, int]) -> nn.Module:
    """Return the network that ``config`` names, with random weights, for images [B, channels, H, W].

    Raises:
        InputError: timm is not installed, the name is unknown, the network refuses an option, a setting has no effect
            on it, or it cannot take images of that size or number of channels.
    """
    for field in ("width", "stem"):
        value = getattr(config, field)
        if value is not None:
            raise InputError(
                f"model.{field}={value} has no effect on {config.name}; leave it out or see model.options."
            )
    library, name = _find(config.name)
    options = parse_options(config.options, library.TAKEN)
    wrap = library is torchvision_networks and channels == 1
    if library is torchvision_networks and channels not in (1, 3):
        raise InputError(
            f"{config.name} takes images of 1 or 3 channels; these have {channels}. Choose a timm: network."
        )
    what = f"{config.name} with {', '.join(config.options) or 'no options'} for {image_size[0]}x{image_size[1]} pixels"
    try:
        net: nn.Module = library.make(name, options, channels=channels, classes=classes, image_size=image_size)
        net = Grey(net) if wrap else net
        logits = _probe(net, channels, image_size)
    except InputError:
        raise
    except Exception as error:  # networks fail in many ways
        raise InputError(
            f"{what} cannot be built: {_line(error)}. Change model.options or the size of the images."
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        came = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{what} returns {came} for 2 images, not logits of {classes} classes; change model.options.")
    return net


def statistics(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, in units of [0, 1], that the weights of network ``name`` were trained with.

    Images of other than three channels get the mean over the colours.

    Raises:
        InputError: the library has no weights for that network.
    """
    library, inner = _find(name)
    mean, std = library.statistics(inner)
    if channels == 3 and len(mean) == 3:
        return tuple(mean), tuple(std)
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def image_size(name: str) -> tuple[int, int]:
    """Return height and width of the images that the library's weights of network ``name`` were trained on [pixels].

    Raises:
        InputError: the library has no weights for that network.
    """
    library, inner = _find(name)
    height, width = library.image_size(inner)
    return height, width


def download(config: ModelConfig, *, channels: int, image_size: tuple[int, int]) -> Mapping[str, Tensor]:
    """Return the library's own weights of the network, head included, by parameter name.

    Raises:
        InputError: there are none, the download fails, or they do not fit the options.
    """
    library, name = _find(config.name)
    options = parse_options(config.options, library.TAKEN)
    found: Mapping[str, Tensor] = library.download(name, options, channels=channels, image_size=image_size)
    return found


def translated(
    config: ModelConfig, tensors: Mapping[str, Tensor], *, channels: int, image_size: tuple[int, int]
) -> Mapping[str, Tensor]:
    """Rename ``tensors`` of a file that nuat did not write to the network's parameter names, head included.

    timm reads many spellings, and fits the first layer and the position embeddings to the images. Tensors that cannot
    be translated are returned unchanged; loading them then reports what does not fit.
    """
    library, name = _find(config.name)
    if library is not timm_networks:
        return tensors
    options = parse_options(config.options, timm_networks.TAKEN)
    return timm_networks.translated(name, options, tensors, channels=channels, image_size=image_size)


def head(net: nn.Module) -> tuple[str, ...]:
    """Return the names of the head's parameters, as the library says; if it does not, those of the last layer."""
    named = getattr(net, "pretrained_cfg", {}).get("classifier")
    layers = (named,) if isinstance(named, str) else tuple(named or ())
    names = [name for name, _ in net.named_parameters() if name.rpartition(".")[0] in layers]
    if not names:
        last = [name for name, _ in net.named_parameters()][-1].rpartition(".")[0]
        names = [name for name, _ in net.named_parameters() if name.rpartition(".")[0] == last]
    return tuple(names)


def _find(name: str) -> tuple[ModuleType, str]:
    """Return the library and the name in it; the library refuses unknown names."""
    library, _, inner = name.partition(":")
    module = _LIBRARIES[library]
    module.check(inner)
    return module, inner


def _probe(net: nn.Module, channels: int, image_size: tuple[int, int]) -> Any:
    """Return the network's output for two black images: some sizes fail only here, some outputs are no logits."""
    device = next(net.parameters()).device
    net.eval()
    with torch.no_grad():
        logits = net(torch.zeros(2, channels, *image_size, device=device))
    net.train()
    return logits


def _line(error: Exception) -> str:
    """Return an error's message for use inside a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


__all__ = ["Grey", "build", "download", "head", "image_size", "is_backbone", "statistics", "translated"]
