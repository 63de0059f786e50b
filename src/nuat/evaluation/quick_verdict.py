"""Whether the quick verdict, of CR and then Square, is to be believed. Else AutoAttack follows.

Where gradients mislead, CR and a short Square may agree, and a longer Square breaks more. The sign of it: a search
without gradients comes closer to a success than one along gradients, image by image and long before it succeeds.
"""

import torch
from torch import Tensor, nn

from nuat.attacks import PGD
from nuat.core.losses import logit_margin, margin_sum
from nuat.data import ImageSet, class_balanced, to_float
from nuat.evaluation.guarded_model import ClimbableModel
from nuat.evaluation.inspection import gradient_warnings

_HIDDEN = 0.0005
"""Share of images that Square may break beside CR: none of fewer than 2,000."""
_CLOSER = 0.1
"""Share of the survivors on which Square may come closer to a success than PGD. A robust ResNet-18 on CIFAR-10 has 0 of
16, and the quickstart of 20 epochs at eps 0.3, which masks gradients, 30 of 80."""
_JUDGED, _STEPS, _QUERIES = 100, 20, 100
"""Survivors that the two searches take at most, and their lengths: a tenth of what the quick verdict takes."""


def doubt_of_quick(model: nn.Module, images: ImageSet, eps: float, cr: Tensor, both: Tensor) -> str:
    """Return why CR and Square say less than AutoAttack: masked gradients. Empty: nothing speaks against them.

    Args:
        model: images [B, C, H, W] to logits [B, N], in evaluation mode, with the gradients that it has.
        images: images that were attacked, on the model's device.
        eps: radius of the ball, in Linf.
        cr: images that withstood CR, bool [n].
        both: images that withstood Square as well, bool [n].
    """
    hidden = int((cr & ~both).sum())
    if hidden > _HIDDEN * len(images):
        return f"Square broke {hidden} of {len(images)} images that CR, which follows gradients, did not"
    found = gradient_warnings(model, images)
    if found:
        return found[0].partition(":")[0].partition(";")[0]
    standing = images.select(both.nonzero().squeeze(1))
    part = standing.select(class_balanced(standing.labels.cpu(), min(_JUDGED, len(standing)), seed=0))
    closer = int(_closer_without_gradients(model, to_float(part.images), part.labels, eps).sum()) if len(part) else 0
    if closer > _CLOSER * len(part):
        return f"Square came closer to a success than PGD, which follows gradients, on {closer} of {len(part)} images"
    return ""


def _closer_without_gradients(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Return the images, bool [B], of which a short Square makes the margin smaller than PGD on the margin does."""
    from pyautoattack.square import SquareAttack  # the quick verdict needs it, too

    model = ClimbableModel(model)  # a gradient that is infinite or NaN outside the sample of the check above
    along = PGD(model, eps=eps, alpha=eps / 4, steps=_STEPS, objective=margin_sum, random_start=False)(x, y)
    square = SquareAttack(model, eps=eps, n_queries=_QUERIES, resc_schedule=False, device=x.device)
    square.init_hyperparam(x)
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(0)
        _, without = square.attack_single_run(x, y)  # the best queries, also of images that withstand
        return logit_margin(model(without), y) > logit_margin(model(along), y)
