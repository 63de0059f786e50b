"""The worst of several attempts at each image, which multi-targeted attacks, random noise and ensembles keep."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from nuat.core.losses import logit_margin


def severity(logits: Tensor, y: Tensor) -> Tensor:
    """Return, per image [B], infinity where ``logits`` [B, N] predict another class than ``y``, else the logit margin.

    The prediction is the argmax, as in the verdict of an evaluation: if two logits tie, the margin is 0 and the first
    of them decides.
    """
    return logit_margin(logits, y).masked_fill(logits.argmax(dim=1) != y, float("inf"))


def standing(found: Tensor) -> Tensor:
    """Return the indices [b] of the images that are not broken yet, given the severity [B] of the worst found."""
    return (~torch.isposinf(found)).nonzero().squeeze(1)


@torch.no_grad()
def keep_worst(model: nn.Module, x: Tensor, y: Tensor, attempts: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    """Return, per image, the worst of the image itself and of several attempts in turn, [B, C, H, W].

    An image keeps the first result that the model gets wrong, or else the one with the highest logit margin. No
    attempt is made on an image that is already broken: one that is misclassified without an attack stays unchanged.

    Args:
        model: images [B, C, H, W] to logits [B, N], in evaluation mode.
        x: images [B, C, H, W] in [0, 1].
        y: their labels, int64 [B].
        attempts: each takes the indices [b] of images that stand and returns these attacked, [b, C, H, W].
    """
    x_adv, worst = x.clone(), severity(model(x), y)
    for attempt in attempts:
        left = standing(worst)
        if len(left) == 0:
            break
        candidate = attempt(left)
        found = severity(model(candidate), y[left])
        better = found > worst[left]
        x_adv[left[better]], worst[left[better]] = candidate[better], found[better]
    return x_adv
