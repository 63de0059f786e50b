"""timm's classifiers; needs the ``timm`` extra."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nuat.errors import InputError, did_you_mean
from nuat.models.options import Value

TAKEN = (
    *("num_classes", "in_chans", "img_size", "features_only", "out_indices", "pretrained", "pretrained_cfg"),
    *("pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir", "scriptable", "exportable"),
)
"""Arguments that settings and images decide, or that turn the network into something other than a classifier."""

_HEADS = ("head.fc", "head", "fc", "classifier")
"""Names of the head in files from elsewhere, besides timm's own."""


def check(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: timm is not installed, or it has no such network, or no such weights of it.
    """
    timm = _timm()
    if not timm.is_model(name):
        known = timm.list_models()
        raise InputError(
            f"model.name=timm:{name}: timm {timm.__version__} has no such network.{did_you_mean(name, known)} "
            "timm.list_models() lists them all."
        )
    architecture, dot, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")] if dot else []
    if dot and tag not in tags:
        raise InputError(
            f"model.name=timm:{name}: timm {timm.__version__} has no weights {tag!r} of {architecture}."
            f"{did_you_mean(tag, tags)} There are: {', '.join(tags) or 'none'}."
        )


def make(
    name: str, options: Mapping[str, Value], *, channels: int, classes: int, image_size: tuple[int, int], **more: Any
) -> nn.Module:
    """Build the network, with random weights unless ``more`` arguments of timm's create_model say otherwise."""
    create = _timm().create_model
    sizes: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    try:
        net: nn.Module = create(name, img_size=image_size, **sizes, **options, **more)
    except TypeError as error:  # most convolutional networks take images of any size and have no such argument
        if "img_size" not in str(error):
            raise
        net = create(name, **sizes, **options, **more)
    _check_patches(name, net, image_size)
    return net


def statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std that timm's weights were trained with."""
    config = _config(name)
    return tuple(config.mean), tuple(config.std)


def image_size(name: str) -> tuple[int, int]:
    """Return height and width of the images that timm's weights were trained on [pixels]."""
    _, height, width = _config(name).input_size
    return height, width


def download(
    name: str, options: Mapping[str, Value], *, channels: int, image_size: tuple[int, int]
) -> Mapping[str, Tensor]:
    """Return timm's own weights, cached or downloaded, fitted to the images."""
    config = _config(name)
    if not config.has_weights:
        raise InputError(f"timm has no weights of {name}; give none, or the path of a file.")
    sizes: dict[str, Any] = {"channels": channels, "classes": config.num_classes, "image_size": image_size}
    with torch.random.fork_rng(devices=[]):
        try:
            return make(name, options, **sizes, pretrained=True).state_dict()
        except Exception as error:  # network, hub and disk fail in many ways
            reason = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, RuntimeError) and "state_dict" in reason:
                raise InputError(f"the weights of timm:{name} do not fit model.options: {reason[:300]} ...") from error
            where = f"{config.hf_hub_id} on the Hugging Face hub" if config.hf_hub_id else config.url
            raise InputError(
                f"the weights of timm:{name} could not be downloaded ({reason}); try again, "
                f"or copy model.safetensors of {where} to this machine and name that file."
            ) from error


def translated(
    name: str,
    options: Mapping[str, Value],
    tensors: Mapping[str, Tensor],
    *,
    channels: int,
    image_size: tuple[int, int],
) -> Mapping[str, Tensor]:
    """Return a file's tensors as timm reads them, or unchanged if timm cannot."""
    config = _config(name)
    named = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    found = [tensors[f"{head}.weight"] for head in (*named, *_HEADS) if f"{head}.weight" in tensors]
    classes = len(found[0]) if found and found[0].ndim > 0 else config.num_classes
    overlay = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": 0, "custom_load": False}
    sizes: dict[str, Any] = {"channels": channels, "classes": classes, "image_size": image_size}
    with torch.random.fork_rng(devices=[]):
        try:
            return make(name, options, **sizes, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
        except Exception:  # each network has a reader of its own
            return tensors


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(
            f"timm: networks need timm, which is not installed ({error}); pip install 'nuat[timm]', or choose a "
            "torchvision: network."
        ) from None


def _config(name: str) -> Any:
    """Return timm's PretrainedCfg."""
    config = _timm().get_pretrained_cfg(name)
    if config is None:
        raise InputError(f"timm does not say how images for {name} are normalised; give model.mean and model.std.")
    return config


def _check_patches(name: str, net: nn.Module, image_size: tuple[int, int]) -> None:
    """Refuse patches that would silently leave out a border of the images."""
    patches = getattr(net, "patch_embed", None)
    if not isinstance(patches, importlib.import_module("timm.layers").PatchEmbed) or patches.dynamic_img_pad:
        return
    height, width = patches.patch_size
    if image_size[0] % height or image_size[1] % width:
        raise InputError(
            f"timm:{name} cuts images into patches of {height}x{width} pixels, which do not tile {image_size[0]}x"
            f"{image_size[1]}; resize the images or give --model.options patch_size=N."
        )
