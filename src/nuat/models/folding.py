"""Copy of a model that is faster to attack: batch norms folded into the convolutions before them, weights frozen.

In evaluation mode a batch norm is an affine map per channel, which the convolution before it can take over: the same
function with fewer passes over memory. Rounding differs in the last bits, so verdicts come from the model itself.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm

from nuat.core.losses import cross_entropy_sum
from nuat.models.adapters import Classifier
from nuat.models.authors import AuthorsWideResNet
from nuat.models.resnet import ResNet
from nuat.models.wide_resnet import WideResNet

_LOGITS, _GRADIENT = 1e-4, 1e-2
"""Largest relative differences of a faithful copy. A gradient jumps if rounding moves a unit across a kink."""


def folded(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    """Return a folded copy of ``model``, or ``model`` itself if no faithful copy can be made.

    Only networks of this package are folded: others may draw noise or count calls, which a traced copy would freeze.
    There is no faithful copy if no batch norm follows a convolution, or if the copy's logits or input gradients differ
    by more than rounding.

    Args:
        model: images [B, C, H, W] to logits [B, N], in evaluation mode.
        x: images [B, C, H, W] to compare on.
        y: their labels, int64 [B].
    """
    if not isinstance(model, Classifier) or not isinstance(model.net, (ResNet, WideResNet, AuthorsWideResNet)):
        return model
    try:
        # the normalisation checks the images' shape, which cannot be traced
        copy = Classifier(deepcopy(model.normalise), fuse(model.net)).eval()
    except Exception:  # torch calls its folding experimental, and attacks work without it
        return model
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy if _norms(copy) < _norms(model) and _same(model, copy, x, y) else model


def _norms(model: nn.Module) -> int:
    """Return the number of batch norms."""
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def _same(model: nn.Module, copy: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Return whether two models agree in logits and input gradients."""
    (logits, gradient), (ours, our_gradient) = _look(model, x, y), _look(copy, x, y)
    if gradient is None or our_gradient is None:
        return False
    return _near(ours, logits, _LOGITS) and _near(our_gradient, gradient, _GRADIENT)


def _look(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return logits [B, N] and the gradient of the cross-entropy in the images, or None if there is no gradient."""
    z = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(z)
        loss = cross_entropy_sum(logits, y)
        gradient = torch.autograd.grad(loss, z, allow_unused=True)[0] if loss.requires_grad else None
    return logits.detach(), gradient


def _near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Return whether ``ours`` differs from ``theirs`` by at most a fraction ``tolerance`` in the Euclidean norm."""
    difference = torch.linalg.vector_norm(ours - theirs)
    return bool(difference <= tolerance * torch.linalg.vector_norm(theirs))  # false for NaN
