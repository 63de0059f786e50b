"""The networks of the paper's authors, which differ from the published ones of the same names (``model.variant=nuat``).

- ResNet-18 and ResNet-34: one more ReLU in the basic block, after the second batch norm and before the addition.
- WideResNet: convolutions with biases; the stride in a block's second convolution; shortcuts from the block's raw
  input; momentum 0.9 in the last batch norm; PyTorch's default initialisation.

Modules are named so that the authors' weights load with ``nuat.models.load_usual_names``. Weights of the ResNets have
the same names and shapes in both variants: only the settings that a run records tell them apart. A file without such
settings is taken as ``plain`` unless the user says otherwise, and the command that loads it says which it took.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from nuat.models.resnet import BasicBlock
from nuat.models.sizes import check_counts
from nuat.models.wide_resnet import blocks_in_a_stage


class AuthorsBasicBlock(BasicBlock):
    """Basic block with a ReLU before the addition: the residual is never negative."""

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(relu(F(x)) + shortcut(x)), [B, planes, H / stride, W / stride]."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class AuthorsWideBlock(nn.Module):
    """bn-relu-conv3x3-bn-relu-conv3x3 plus a shortcut from the raw input; the second convolution has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1)
        projects = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride)) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Return F(x) + shortcut(x): [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        y: Tensor = out + (x if self.downsample is None else self.downsample(x))
        return y


class AuthorsWideResNet(nn.Module):
    """WRN-depth-k of the authors' code: images [B, in_channels, H, W] of any size -> logits [B, classes].

    WRN-34-10 has 46,172,810 parameters for 10 classes.

    Raises:
        InputError: a depth other than 6n + 4, or a size below 1.
    """

    def __init__(self, depth: int, k: int, in_channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        check_counts(k=k, in_channels=in_channels, classes=classes)
        count = blocks_in_a_stage(depth)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.layer1 = _stage(count, 16, 16 * k, 1)
        self.layer2 = _stage(count, 16 * k, 32 * k, 2)
        self.layer3 = _stage(count, 32 * k, 64 * k, 2)
        self.bn1 = nn.BatchNorm2d(64 * k, momentum=0.9)
        self.fc = nn.Linear(64 * k, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> logits [B, classes]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = F.relu(self.bn1(x), inplace=True)
        # The mean over the whole map, whatever its size; at 32x32 this is the 8x8 pooling of the original.
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(count: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return ``count`` blocks of one width; the first has the stride."""
    rest = [AuthorsWideBlock(outputs, outputs, 1) for _ in range(count - 1)]
    return nn.Sequential(AuthorsWideBlock(inputs, outputs, stride), *rest)
