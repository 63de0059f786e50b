"""Network of the quickstart: two strided convolutions and two linear layers."""

from torch import Tensor, nn

from nuat.config.model import Activation
from nuat.models.activations import activation_of
from nuat.models.grey_conv import GreyConv2d
from nuat.models.sizes import check_counts, check_image_size, check_same_size


class SmallCNN(nn.Module):
    """Small MNIST network of Wong & Kolter 2018, for images of one size of at least 4x4 pixels.

    conv4x4(w, stride 2)-relu-conv4x4(2w, stride 2)-relu-fc(100)-relu-fc(N), padding 1, with w = width ("Provable
    defenses via the convex outer adversarial polytope", ICML 2018).

    Shapes: images [B, C, H, W] in [0, 1] -> logits [B, N].

    Raises:
        InputError: a size is impossible, or images have another size than ``image_size``.

    Example:
        >>> from nuat.models import SmallCNN
        >>> import torch
        >>> SmallCNN(1, 10, (28, 28))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        image_size: tuple[int, int],
        width: int = 16,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, classes=classes, width=width)
        check_image_size("small-cnn", image_size, least=4)
        self.image_size = image_size
        self.activate = activation_of(activation)
        self.conv1 = GreyConv2d(in_channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.fc1 = nn.Linear(2 * width * (image_size[0] // 4) * (image_size[1] // 4), 100)
        self.fc2 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, C, H, W] in [0, 1]."""
        check_same_size("small-cnn", self.image_size, (x.shape[2], x.shape[3]))
        x = self.activate(self.conv1(x))
        x = self.conv2(x)
        # in channels_last flat before the activation: after it, its gradient has another layout, which slows both
        x = self.activate(x).flatten(1) if x.is_contiguous() else self.activate(x.flatten(1))
        logits: Tensor = self.fc2(self.activate(self.fc1(x)))
        return logits
