"""Any PyTorch classifier as one of ours: images in [0, 1], with the normalisation inside."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nuat.errors import InputError
from nuat.models.normalisation import Normalise


class Classifier(nn.Module):
    """net(normalise(x)): images [B, C, H, W] in [0, 1] -> logits [B, classes]; normalise may be the identity."""

    def __init__(self, normalise: Normalise | nn.Identity, net: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] in [0, 1] -> logits [B, classes]."""
        logits: Tensor = self.net(self.normalise(x))
        return logits


def adapt(module: nn.Module, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Classifier:
    """Put a normalisation layer in front of a module (one of torchvision's, say) that expects normalised images.

    mean, std: one value per image channel, in units of [0, 1] pixels; neither: module takes pixels as they are.
    The module is shared, not copied, its modes stay, and the layer follows its device and floating type.
    Raises InputError for a mean without std, for values or lengths that cannot be, and for a second normalisation.
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
    # Not .train(mode), which would also set the modes of layers inside the module, frozen batch norms for one.
    classifier.training = normalise.training = module.training
    return classifier


def has_batch_norm(model: nn.Module) -> bool:
    """Whether any layer is a batch norm, so that the mode and the composition of a batch matter."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())
