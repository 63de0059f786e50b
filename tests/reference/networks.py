"""The authors' ResNet-18 and WideResNet, slowly, from their description: what ``model.variant=nuat`` is held to.

Nothing here comes from ``nuat``. Convolutions are torch's; batch norm computes its statistics and running averages
itself. The modules have the names of the package's, so that weights load.
"""

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=bias)


class BatchNorm(nn.Module):
    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            n = x.numel() // x.shape[1]
            mean = x.sum(dim=(0, 2, 3)) / n
            variance = ((x - mean[None, :, None, None]) ** 2).sum(dim=(0, 2, 3)) / n
            with torch.no_grad():
                unbiased = variance * n / (n - 1)
                self.running_mean.copy_((1 - self.momentum) * self.running_mean + self.momentum * mean)
                self.running_var.copy_((1 - self.momentum) * self.running_var + self.momentum * unbiased)
                self.num_batches_tracked += 1
        x = (x - mean[None, :, None, None]) / torch.sqrt(variance + 1e-5)[None, :, None, None]
        return self.weight[None, :, None, None] * x + self.bias[None, :, None, None]


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros((), dtype=x.dtype))


class Block(nn.Module):
    """Block of the ResNet: conv-bn-relu, conv-bn-relu (theirs alone has this ReLU), addition, relu."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride), BatchNorm(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs, 3), BatchNorm(outputs)
        projects = stride != 1 or inputs != outputs
        shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride), BatchNorm(outputs))
        self.downsample = shortcut if projects else None

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        h = relu(self.bn2(self.conv2(h)))
        if self.downsample is not None:
            x = self.downsample(x)
        return relu(h + x)


class WideBlock(nn.Module):
    """Block of the WideResNet: bn-relu-conv twice, biases, the stride in the second; the shortcut takes the raw x."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = BatchNorm(inputs), convolution(inputs, outputs, 3, bias=True)
        self.bn2, self.conv2 = BatchNorm(outputs), convolution(outputs, outputs, 3, stride, bias=True)
        projects = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride, bias=True)) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(relu(self.bn1(x)))
        h = self.conv2(relu(self.bn2(h)))
        if self.downsample is not None:
            x = self.downsample(x)
        return h + x


class ResNet18(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, width, 3), BatchNorm(width)
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Block(4 * width, 8 * width, 2), Block(8 * width, 8 * width, 1))
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        h = h.sum(dim=(2, 3)) / (h.shape[2] * h.shape[3])
        return h @ self.fc.weight.T + self.fc.bias


class WideResNet10(nn.Module):
    """WRN-10-1: one block per stage. The last batch norm has momentum 0.9."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = convolution(3, 16, 3, bias=True)
        self.layer1 = nn.Sequential(WideBlock(16, 16, 1))
        self.layer2 = nn.Sequential(WideBlock(16, 32, 2))
        self.layer3 = nn.Sequential(WideBlock(32, 64, 2))
        self.bn1 = BatchNorm(64, momentum=0.9)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        h = relu(self.bn1(h))
        h = h.sum(dim=(2, 3)) / (h.shape[2] * h.shape[3])
        return h @ self.fc.weight.T + self.fc.bias
