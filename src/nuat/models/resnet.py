"""Residual networks (He et al., CVPR 2016) with the stem of CIFAR or of ImageNet.

Modules are named, ordered and initialised as in torchvision, so its weights load directly and one seed gives the
same network. The paper's authors have one more ReLU in each block; see ``nuat.models.authors``.
"""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nuat.config.model import Activation
from nuat.errors import InputError
from nuat.models.activations import activation_of
from nuat.models.sizes import check_counts

Stem = Literal["cifar", "imagenet"]

BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}
"""Residual blocks in each of the four stages."""


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Return the projection [B, inputs, H, W] -> [B, outputs, H / stride, W / stride], or None if none is needed."""
    if stride == 1 and inputs == outputs:
        return None
    convolution = NarrowProjection if inputs < 16 else nn.Conv2d
    return nn.Sequential(convolution(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class NarrowProjection(nn.Conv2d):
    """1x1 convolution of a few channels with a stride; otherwise it is ``nn.Conv2d``, names included.

    In channels_last, oneDNN's gradient of the weights writes past its memory if there are fewer input channels than a
    vector register holds (oneDNN issue 6035; torch 2.15 on a CPU with AVX2): it is wrong, or the process ends. Without
    a stride it is right, so the stride is taken first.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Convolve images [B, C, H, W]."""
        if not (input.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        # a pool of single pixels, as the gradient of a slice is not in channels_last
        return F.conv2d(F.max_pool2d(input, 1, self.stride), self.weight)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; [B, inputs, H, W] -> [B, planes, H / stride, W / stride]."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, planes: int, stride: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activate = activation_of(activation)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return a(F(x) + shortcut(x)), a being the activation."""
        out = self.activate(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.activate(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; [B, inputs, H, W] -> [B, 4 planes, H / stride, W / stride]."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, planes: int, stride: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activate = activation_of(activation)
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        # the stride is that of the 3x3 convolution ("ResNet v1.5"), as in torchvision.
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return a(F(x) + shortcut(x)), a being the activation."""
        out = self.activate(self.bn1(self.conv1(x)))
        out = self.activate(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.activate(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Residual network for images of any size.

    Args:
        block: kind of residual block.
        blocks: number of blocks in each stage.
        in_channels: channels C of the images.
        classes: number of classes N.
        stem: "cifar" (3x3 stride 1, no pooling) or "imagenet" (7x7 stride 2, 3x3 max-pooling stride 2).
        width: planes of the first stage; each following stage doubles them.
        activation: activation of all layers.

    Shapes: images [B, C, H, W] in [0, 1] -> logits [B, N].

    Raises:
        InputError: the stem or the activation is unknown, or a size is below 1.

    Example:
        >>> from nuat.models import ResNet
        >>> from nuat.models.resnet import BasicBlock
        >>> import torch
        >>> ResNet(BasicBlock, (1, 1, 1, 1), width=4)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        *,
        in_channels: int = 3,
        classes: int = 10,
        stem: Stem = "cifar",
        width: int = 64,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, classes=classes, width=width)
        if stem not in get_args(Stem):
            raise InputError(f"stem={stem!r}: expected one of {', '.join(get_args(Stem))}.")
        self.stem = stem
        self.activate = activation_of(activation)
        kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        inputs = width
        for stage, count in enumerate(blocks):
            planes = width * 2**stage
            layers = []
            for i in range(count):
                layers.append(block(inputs, planes, 2 if stage > 0 and i == 0 else 1, activation))
                inputs = planes * block.expansion
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, C, H, W] in [0, 1]."""
        x = self.activate(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def resnet18(
    *,
    in_channels: int = 3,
    classes: int = 10,
    stem: Stem = "cifar",
    width: int = 64,
    activation: Activation = "relu",
    block: type[BasicBlock] = BasicBlock,
) -> ResNet:
    """Return a ResNet-18: basic blocks (2, 2, 2, 2).

    Example:
        >>> from nuat.models import resnet18
        >>> sum(parameter.numel() for parameter in resnet18().parameters())
        11173962
    """
    return ResNet(
        block,
        BLOCKS["resnet18"],
        in_channels=in_channels,
        classes=classes,
        stem=stem,
        width=width,
        activation=activation,
    )


def resnet34(
    *,
    in_channels: int = 3,
    classes: int = 10,
    stem: Stem = "cifar",
    width: int = 64,
    activation: Activation = "relu",
    block: type[BasicBlock] = BasicBlock,
) -> ResNet:
    """Return a ResNet-34: basic blocks (3, 4, 6, 3).

    Example:
        >>> from nuat.models import resnet34
        >>> len(resnet34(width=4).layer3)
        6
    """
    return ResNet(
        block,
        BLOCKS["resnet34"],
        in_channels=in_channels,
        classes=classes,
        stem=stem,
        width=width,
        activation=activation,
    )


def resnet50(
    *,
    in_channels: int = 3,
    classes: int = 10,
    stem: Stem = "cifar",
    width: int = 64,
    activation: Activation = "relu",
) -> ResNet:
    """Return a ResNet-50: bottlenecks (3, 4, 6, 3).

    Example:
        >>> from nuat.models import resnet50
        >>> resnet50(width=4, classes=7).fc
        Linear(in_features=128, out_features=7, bias=True)
    """
    return ResNet(
        Bottleneck,
        BLOCKS["resnet50"],
        in_channels=in_channels,
        classes=classes,
        stem=stem,
        width=width,
        activation=activation,
    )
