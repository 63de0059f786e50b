"""MNIST network of the paper: four 5x5 convolutions and two linear layers."""

from torch import Tensor, nn
from torch.nn import functional as F

from nuat.config.model import Activation
from nuat.models.activations import activation_of
from nuat.models.grey_conv import GreyConv2d
from nuat.models.sizes import check_counts, check_image_size, check_same_size


class MNISTCNN(nn.Module):
    """Network of the paper's MNIST experiments, for images of one size of at least 4x4 pixels.

    conv5x5(w)-relu-conv5x5(w)-relu-maxpool2-conv5x5(2w)-relu-conv5x5(2w)-relu-maxpool2-fc(512)-relu-fc(N), padding 2,
    with w = width. At 28x28 and width 32 this is the network of Sriramanan et al. 2021 (fc 3136-512).

    Shapes: images [B, C, H, W] in [0, 1] -> logits [B, N].

    Raises:
        InputError: a size is impossible, or images have another size than ``image_size``.

    Example:
        >>> from nuat.models import MNISTCNN
        >>> import torch
        >>> MNISTCNN(width=4)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        image_size: tuple[int, int] = (28, 28),
        width: int = 32,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, classes=classes, width=width)
        check_image_size("mnist-cnn", image_size, least=4)
        self.image_size = image_size
        self.activate = activation_of(activation)
        self.conv1 = GreyConv2d(in_channels, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 5, padding=2)
        self.conv3 = nn.Conv2d(width, 2 * width, 5, padding=2)
        self.conv4 = nn.Conv2d(2 * width, 2 * width, 5, padding=2)
        self.fc1 = nn.Linear(2 * width * (image_size[0] // 4) * (image_size[1] // 4), 512)
        self.fc2 = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, C, H, W] in [0, 1]."""
        check_same_size("mnist-cnn", self.image_size, (x.shape[2], x.shape[3]))
        x = self.activate(self.conv1(x))
        x = F.max_pool2d(self.activate(self.conv2(x)), 2)
        x = self.activate(self.conv3(x))
        x = F.max_pool2d(self.activate(self.conv4(x)), 2)
        logits: Tensor = self.fc2(self.activate(self.fc1(x.flatten(1))))
        return logits
