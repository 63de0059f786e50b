"""Copy of a model that is faster to attack: batch norms folded into the convolutions before them, weights frozen.

In evaluation mode a batch norm is an affine map per channel, which the convolution before it can take over: the same
function with fewer passes over memory. Rounding differs in the last bits, so verdicts come from the model itself.
"""

import math
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm

from nuat.core.losses import cross_entropy_sum
from nuat.models.adapters import Classifier
from nuat.models.authors import AuthorsWideResNet
from nuat.models.resnet import NarrowProjection, ResNet
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
        net = deepcopy(model.net)
        for module in net.modules():
            if isinstance(module, NarrowProjection):  # without gradients of the weights, a convolution that torch folds
                module.__class__ = nn.Conv2d  # type: ignore[assignment]
        # the normalisation checks the images' shape, which cannot be traced
        copy = Classifier(deepcopy(model.normalise), fuse(net, inplace=True)).eval()
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
    apart = differences(model, copy, x, y)
    return all(found <= most for found, most in zip(apart, (_LOGITS, _GRADIENT), strict=True))  # false for NaN


def differences(
    model: Callable[[Tensor], Tensor], copy: Callable[[Tensor], Tensor], x: Tensor, y: Tensor | None = None
) -> list[float]:
    """Return how far ``copy`` is from ``model`` on ``x`` [B, C, H, W], relative in the Euclidean norm.

    First in the logits, then in the gradient of the cross-entropy in the images, infinite if either has none. NaN where
    numbers are not finite.

    Args:
        model: images [B, C, H, W] to logits [B, N], in evaluation mode.
        copy: the same, perhaps.
        x: images to compare on.
        y: labels, int64 [B]. None: compare logits alone, in passes without gradients.
    """
    theirs, ours = _look(model, x, y), _look(copy, x, y)
    return [math.inf if a is None or b is None else _apart(a, b) for a, b in zip(ours, theirs, strict=True)]


def _look(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor | None) -> list[Tensor | None]:
    """Return logits [B, N] and, with labels, the gradient of the cross-entropy in the images, None if there is none."""
    if y is None:
        with torch.no_grad():
            return [model(x)]
    z = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(z)
        loss = cross_entropy_sum(logits, y)
        gradient = torch.autograd.grad(loss, z, allow_unused=True)[0] if loss.requires_grad else None
    return [logits.detach(), gradient]


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Return the norm of the difference, as a fraction of the norm of ``theirs``; 0: there is none."""
    difference = torch.linalg.vector_norm(ours - theirs)
    return float(difference / torch.linalg.vector_norm(theirs)) if difference != 0 else 0.0
