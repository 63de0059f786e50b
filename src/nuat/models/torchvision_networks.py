"""torchvision's classifiers."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nuat.errors import InputError, did_you_mean
from nuat.models.options import Value

TAKEN = ("weights", "progress", "num_classes", "image_size")
"""Arguments that the settings and the images decide."""

_TAKES_SIZE = "vit_"
_AUXILIARY = ("googlenet", "inception_v3")


def check(name: str) -> None:
    """Refuse a name that torchvision does not know as a classifier.

    Raises:
        InputError: there is no such classifier, or it returns more than logits in training.
    """
    torchvision = _torchvision()
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise InputError(
            f"model.name=torchvision:{name}: torchvision {torchvision.__version__} has no such classifier."
            f"{did_you_mean(name, known)} Others: {', '.join(known[:3])}, ...; or a timm: network."
        )
    if name in _AUXILIARY:
        raise InputError(
            f"model.name=torchvision:{name} returns logits of auxiliary heads in training, which no defense expects; "
            f"choose timm:inception_v3 or another network."
        )


def make(
    name: str, options: Mapping[str, Value], *, channels: int, classes: int, image_size: tuple[int, int]
) -> nn.Module:
    """Build the network with random weights; it takes three channels, whatever ``channels`` says."""
    sizes: dict[str, int] = {}
    if name.startswith(_TAKES_SIZE):
        if image_size[0] != image_size[1]:
            raise InputError(
                f"torchvision:{name} takes square images; these have {image_size[0]}x{image_size[1]} pixels. Choose a "
                "timm: network."
            )
        sizes["image_size"] = image_size[0]
    net: nn.Module = _torchvision().models.get_model(name, weights=None, num_classes=classes, **sizes, **options)
    return net


def statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std that torchvision's weights were trained with."""
    transforms = _weights(name).transforms()
    return tuple(transforms.mean), tuple(transforms.std)


def image_size(name: str) -> tuple[int, int]:
    """Return height and width of the images that torchvision's weights were trained on [pixels]."""
    (side,) = _weights(name).transforms().crop_size
    return side, side


def download(
    name: str, options: Mapping[str, Value], *, channels: int, image_size: tuple[int, int]
) -> Mapping[str, Tensor]:
    """Return torchvision's own weights, cached or downloaded."""
    weights = _weights(name)
    try:
        found: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # network and disk fail in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the weights of torchvision:{name} could not be downloaded ({reason}); try "
            f"again, or copy {weights.url} to this machine and name that file."
        ) from error
    return found


def _weights(name: str) -> Any:
    return _torchvision().models.get_model_weights(name).DEFAULT


def _torchvision() -> Any:
    return importlib.import_module("torchvision")  # late: it takes half a second
