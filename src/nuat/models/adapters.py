"""Adapter that makes any PyTorch classifier take images in [0, 1], with its normalisation inside."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nuat.errors import InputError
from nuat.models.normalisation import Normalise


class Classifier(nn.Module):
    """Network behind a normalisation layer: ``net(normalise(x))``; the layer may be the identity.

    Shapes: images [B, C, H, W] in [0, 1] -> logits [B, N].

    Example:
        >>> from torch import nn
        >>> from nuat.models import Classifier
        >>> import torch
        >>> model = Classifier(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))
        >>> model(torch.zeros(2, 3, 2, 2)).shape
        torch.Size([2, 5])
    """

    def __init__(self, normalise: Normalise | nn.Identity, net: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, N] of images [B, C, H, W] in [0, 1]."""
        normalise = self.normalise
        # calling an identity takes 1 % of a pass of 80 digits
        logits: Tensor = self.net(x if type(normalise) is nn.Identity else normalise(x))
        return logits


def adapt(module: nn.Module, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Classifier:
    """Put a normalisation layer in front of a module that expects normalised images, such as torchvision's.

    The module is shared, not copied, and its modes stay. The layer has the module's device and floating type.

    Args:
        module: normalised images [B, C, H, W] to logits [B, N].
        mean: one value per channel, in units of [0, 1] pixels. None: the module takes pixels directly.
        std: one value per channel; given with ``mean``.

    Raises:
        InputError: mean without std, wrong values or lengths, or a module that normalises already.

    Example:
        >>> from torch import nn
        >>> from nuat.models import adapt
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> model = adapt(net, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> bool(torch.allclose(model(torch.full((1, 3, 2, 2), 0.75)), net(torch.ones(1, 3, 2, 2))))
        True
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module is a {type(module).__name__}: expected a torch.nn.Module that returns logits.")
    if isinstance(module, Classifier):
        if mean is None and std is None:
            return module
        if isinstance(module.normalise, Normalise):
            raise InputError("the module already normalises its images; give neither mean nor std, or adapt its .net.")
        module = module.net
    normalise: Normalise | nn.Identity = nn.Identity()
    if mean is not None and std is not None:
        normalise = Normalise(mean, std)
        for parameter in module.parameters():
            if parameter.is_floating_point():
                normalise.to(device=parameter.device, dtype=parameter.dtype)
                break
    elif mean is not None or std is not None:
        raise InputError("mean and std go together: give both or neither.")
    classifier = Classifier(normalise, module)
    # not .train(mode), which would also set the modes of layers inside the module, such as frozen batch norms
    classifier.training = normalise.training = module.training
    return classifier


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether any layer is a batch norm, which makes the mode and the composition of a batch matter.

    Example:
        >>> from torch import nn
        >>> from nuat.models import has_batch_norm
        >>> has_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
        True
    """
    return any(isinstance(module, _BatchNorm) for module in model.modules())
