"""What to be told about a model before its robustness is believed: is it fed as it expects, and has it a gradient?

Each check that finds something returns a sentence; what makes an evaluation impossible raises instead.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.core.losses import cross_entropy_sum
from nuat.data import Images, to_float
from nuat.errors import InputError
from nuat.hardware import full_precision

_IMAGES = 200
_GAIN = 0.15
"""Accuracy that another scaling of the images must win before it is believed to be the one that the model expects."""

_SCALINGS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "pixels from -1 to 1 (mean 0.5, std 0.5)": ((0.5,), (0.5,)),
    "pixels from 0 to 255": ((0.0,), (1 / 255,)),
    "ImageNet's normalisation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's normalisation": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "CIFAR-100's normalisation": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "MNIST's normalisation": ((0.1307,), (0.3081,)),
}


def inspect(model: nn.Module, images: Images) -> list[str]:
    """Return warnings about ``model`` on the first of ``images``, in evaluation mode; none is the good answer.

    Raises:
        InputError: no images, the model returns something else than finite logits [B, N], or fewer than the labels
            need.
    """
    if len(images) == 0:
        raise InputError("there are no images to evaluate on.")
    part = images.select(torch.arange(min(_IMAGES, len(images))))
    x, y = to_float(part.images), part.labels
    with eval_mode(model), full_precision():
        logits = check_logits(model, x, int(images.labels.max()) + 1)
        return [*_probabilities(logits), *_scaling(model, x, y, logits), *_gradients(model, x, y)]


def check_logits(model: nn.Module, x: Tensor, classes: int) -> Tensor:
    """Return the model's logits [B, N] on ``x`` [B, C, H, W], or say what is wrong with them."""
    try:
        with torch.no_grad():
            logits = model(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        size = " x ".join(map(str, x.shape[1:]))
        why = " ".join(str(error).split())
        raise InputError(f"the model fails on images of {size} (channels, height, width): {why}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model must return logits [B, N] as one tensor; it returned {shape}.")
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model returns logits that are infinite or NaN on clean images; it cannot be evaluated.")
    if logits.shape[1] < classes:
        raise InputError(f"the model returns {logits.shape[1]} logits, but the images have {classes} classes.")
    return logits


def _probabilities(logits: Tensor) -> Iterator[str]:
    if bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all()):
        yield (
            "the model returns probabilities: attacks on the cross-entropy take them for logits, and a second softmax "
            "flattens their gradients. Give the logits, or the result flatters the model."
        )


def _scaling(model: nn.Module, x: Tensor, y: Tensor, logits: Tensor) -> Iterator[str]:
    """Warn where the model is far more accurate on images scaled in a usual way than on pixels in [0, 1]."""
    plain = float((logits.argmax(dim=1) == y).double().mean())
    best, name = plain, ""
    for scaling, (mean, std) in _SCALINGS.items():
        if len(mean) not in (1, x.shape[1]):
            continue
        centre, spread = (x.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        with torch.no_grad():
            accuracy = float((model((x - centre) / spread).argmax(dim=1) == y).double().mean())
        if accuracy > best:
            best, name = accuracy, scaling
    if best > plain + _GAIN:
        yield (
            f"the model classifies {plain:.0%} of the images as they come, in [0, 1], but {best:.0%} after {name}. It "
            "seems to expect that: put it inside the model with nuat.models.adapt(module, mean=..., std=...)."
        )


def _gradients(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[str]:
    """Warn where the loss has no gradient in the image, so that an attack by gradients stands still."""
    z = x.clone().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy_sum(model(z), y)
    if not loss.requires_grad:
        yield "the loss has no gradient in the image at all; only black-box attacks (square) say anything of it."
        return
    (gradient,) = torch.autograd.grad(loss, z, allow_unused=True)
    if gradient is None:
        yield "the loss does not depend on the image by gradients; only black-box attacks (square) say anything of it."
        return
    dead = float((gradient.flatten(1).abs().amax(dim=1) == 0).double().mean())
    if dead > 0.05:
        yield (
            f"the gradient of the loss in the image is exactly 0 for {dead:.0%} of {len(x)} images (saturated or "
            "masked): attacks on the cross-entropy stand still there. Believe margin and black-box attacks (gama-100, "
            "square)."
        )
