"""Wide residual networks with pre-activation (Zagoruyko & Komodakis, BMVC 2016), as in the code of TRADES and AWP.

Modules are named and initialised as there, without dropout, so weights of that code load directly.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from nuat.config.model import Activation
from nuat.errors import InputError
from nuat.models.activations import activation_of
from nuat.models.sizes import check_counts


class WideBlock(nn.Module):
    """bn-relu-conv3x3-bn-relu-conv3x3 and a shortcut; [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.activate = activation_of(activation)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        # as in that code, the number of channels alone decides: a block that strides always widens
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + shortcut(x); a projecting shortcut starts from the activated input."""
        active = self.activate(self.bn1(x))
        out = self.activate(self.bn2(self.conv1(active)))
        out = self.conv2(out)
        shortcut: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        y: Tensor = shortcut + out
        return y


class WideStage(nn.Module):
    """Blocks of one width, the first with the stride."""

    def __init__(self, count: int, inputs: int, outputs: int, stride: int, activation: Activation) -> None:
        super().__init__()
        rest = [WideBlock(outputs, outputs, 1, activation) for _ in range(count - 1)]
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride, activation), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Wide residual network WRN-depth-k for images of any size.

    depth = 6n + 4, with n >= 1 blocks in each of three stages of 16k, 32k and 64k channels. WRN-34-10 has 46,160,474
    parameters for 10 classes.

    Shapes: images [B, C, H, W] in [0, 1] -> logits [B, N].

    Raises:
        InputError: the depth has another form, or a size is below 1.

    Example:
        >>> from nuat.models import WideResNet
        >>> import torch
        >>> WideResNet(10, 1)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, depth: int, k: int, in_channels: int = 3, classes: int = 10, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        check_counts(k=k, in_channels=in_channels, classes=classes)
        count = blocks_in_a_stage(depth)
        self.activate = activation_of(activation)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(count, 16, 16 * k, 1, activation)
        self.block2 = WideStage(count, 16 * k, 32 * k, 2, activation)
        self.block3 = WideStage(count, 32 * k, 64 * k, 2, activation)
        self.bn1 = nn.BatchNorm2d(64 * k)
        self.fc = nn.Linear(64 * k, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, C, H, W] in [0, 1]."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.activate(self.bn1(x))
        # mean over the whole map, whatever its size; at 32x32 this is the 8x8 pooling of the original
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def blocks_in_a_stage(depth: int) -> int:
    """Return the blocks in each of the three stages of a wide ResNet with ``depth`` layers.

    Raises:
        InputError: a depth other than 6n + 4.
    """
    if depth < 10 or (depth - 4) % 6 != 0:
        nearest = max(10, round((depth - 4) / 6) * 6 + 4)
        raise InputError(
            f"depth={depth}: a wide ResNet has 6n + 4 layers (10, 16, 22, 28, 34, ...); the nearest is {nearest}."
        )
    return (depth - 4) // 6
