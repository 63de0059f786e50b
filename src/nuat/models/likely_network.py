"""The network of this package that weights are likely for, by the names and shapes of their tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nuat.models.resnet import BLOCKS, Stem


@dataclass(frozen=True, kw_only=True)
class LikelyNetwork:
    """A network in the terms of ``nuat.models.build``."""

    name: str | None
    """Name, such as resnet18. None: a ResNet of another depth."""
    channels: int
    """Channels of the images."""
    classes: int | None
    """Number of logits. None: there is no last layer."""
    variant: Literal["plain", "nuat"] = "plain"
    """nuat: the WideResNet of the paper's authors."""
    width: int | None = None
    """Channels of the first stage. None: the name holds it."""
    stem: Stem | None = None
    """Stem of a ResNet."""

    def __str__(self) -> str:
        """Return the network for a message."""
        name = (self.name or "another ResNet") + (" of variant nuat" if self.variant == "nuat" else "")
        stem = "" if self.stem is None else f"{self.stem} stem, "
        width = "" if self.width is None else f"width {self.width}, "
        classes = "no last layer" if self.classes is None else f"{self.classes} classes"
        return f"{name} ({stem}{width}{self.channels} channels, {classes})"


def likely_network(tensors: Mapping[str, object]) -> LikelyNetwork | None:
    """Return the network that tensors are likely for, or None.

    Args:
        tensors: tensors by name, without prefixes; anything else is passed over.
    """
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if isinstance(value, Tensor)}
    stem = shapes.get("conv1.weight", ())
    head = shapes.get("fc.weight") or shapes.get("fc2.weight") or ()

    def blocks(stage: str) -> int:
        return sum(re.fullmatch(rf"{stage}\.\d+\.conv1\.weight", name) is not None for name in shapes)

    if len(stem) != 4 or not (len(head) == 2 or blocks("layer1") or blocks("block1.layer")):
        return None
    channels, classes = stem[1], head[0] if len(head) == 2 else None
    if count := blocks("block1.layer"):
        k = shapes.get("block1.layer.0.conv1.weight", (0,))[0] // 16
        return LikelyNetwork(name=f"wrn-{6 * count + 4}-{k}", channels=channels, classes=classes)
    if blocks("layer1") and "layer1.0.conv1.bias" in shapes:
        k = shapes["layer1.0.conv1.weight"][0] // 16
        name = f"wrn-{6 * blocks('layer1') + 4}-{k}"
        return LikelyNetwork(name=name, variant="nuat", channels=channels, classes=classes)
    if blocks("layer1"):
        counts = tuple(blocks(f"layer{stage}") for stage in (1, 2, 3, 4))
        deep = "layer1.0.conv3.weight" in shapes
        names = [name for name, known in BLOCKS.items() if known == counts and (name == "resnet50") == deep]
        return LikelyNetwork(
            name=names[0] if names else None,
            channels=channels,
            classes=classes,
            width=stem[0],
            stem="imagenet" if stem[2] == 7 else "cifar",
        )
    name = "mnist-cnn" if "conv4.weight" in shapes else "small-cnn"
    return LikelyNetwork(name=name, channels=channels, classes=classes, width=stem[0])
