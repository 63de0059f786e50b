"""Inspection of a model before its robustness is believed: its input, its gradient, its randomness, its classes.

Each check that finds something returns a warning; a model that cannot be evaluated raises instead. Randomness and
gradients are looked at with images in [0, 1] alone, as some models refuse any other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.core.losses import cross_entropy_sum
from nuat.data import Images, class_balanced, to_float
from nuat.errors import InputError
from nuat.evaluation.class_order import accuracy_warning, order_warning
from nuat.evaluation.guarded_model import GuardedModel, guarded
from nuat.hardware import full_precision
from nuat.models import Classifier, Normalise

_IMAGES = 200
_GAIN = 0.15
"""Accuracy that another scaling of the images must win before the model is believed to expect it."""
_ROUNDING = 16
"""Units in the last place of a logit that the order of a sum may change."""


@dataclass(frozen=True)
class _Scaling:
    """A usual normalisation of images."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_SCALINGS = (
    _Scaling("pixels from -1 to 1", (0.5,), (0.5,)),
    _Scaling("pixels from 0 to 255", (0.0,), (1 / 255,)),
    _Scaling("ImageNet's normalisation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    _Scaling("CIFAR-10's normalisation", (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    _Scaling("CIFAR-100's normalisation", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    _Scaling("MNIST's normalisation", (0.1307,), (0.3081,)),
)
_NONE = _Scaling("no normalisation", (0.0,), (1.0,))


def inspect(model: nn.Module, images: Images, *, order: tuple[int, ...] | None = None) -> list[str]:
    """Return warnings about ``model``, looked at in evaluation mode on a class-balanced part of ``images``.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        images: images with labels.
        order: the logit of the model for each class, see ``GuardedModel``. None: logit i is class i.

    Returns:
        One sentence or two for each finding; empty for a good model.

    Raises:
        InputError: there are no images, the model fails, it returns something else than finite logits [B, N], or fewer
            than there are classes.
    """
    if len(images) == 0:
        raise InputError("there are no images to evaluate on.")
    guard = guarded(model, order)
    classes = int(images.labels.max()) + 1
    device = next((p.device for p in model.parameters()), images.device)
    part = images.select(class_balanced(images.labels.cpu(), min(_IMAGES, len(images)), seed=0)).to(device)
    x, y = to_float(part.images), part.labels
    devices = [device] if device.type == "cuda" else []
    # the model's own draws leave torch's generators as they were
    with torch.random.fork_rng(devices=devices), eval_mode(guard), full_precision():
        guard.watched = True
        try:
            logits = check_logits(guard, x, classes)
            torch.rand((), device=device)  # passes of a model that seeds begin in different states and end in one
            random = beyond_rounding(logits, check_logits(guard, x, classes)[None])
            check_logits(guard, _between(x), classes)
            found = [*_probabilities(logits), *_gradients(guard, x, y)]
            if bool(random.any()):
                found += [_random(random), *_batch_of_random(guard, x, devices)]
            else:
                found += _batch(guard, x, logits)
            # of the causes of a low accuracy the first that is found is named
            found += (
                order_warning(logits, y, classes)
                or (_scaling(guard, x, y, logits) if not bool(random.any()) else [])
                or accuracy_warning(logits, y, classes)
            )
        finally:
            guard.watched = False
    return [*[_WRITES] * guard.wrote, *[_SEEDS] * guard.reseeds, *found]


def _between(x: Tensor) -> Tensor:
    """Return images in [0, 1] whose pixels lie between the levels of 8 bits, where rounding to them shows."""
    draw = torch.Generator(x.device).manual_seed(0)
    return (x + (torch.rand(x.shape, generator=draw, device=x.device) - 0.5) / 255).clamp(0.0, 1.0)


_WRITES = (
    "the model writes into its input. Every pass gets a copy here, so the results are right; anyone who attacks the "
    "model without one is told that it is robust. Let it clone its input."
)


_SEEDS = (
    "the model seeds torch's random numbers in its forward pass. Every pass leaves them as they were here, so the "
    "results are right; elsewhere attacks that draw at random, such as Square, repeat their draws and find little. Let "
    "the model draw from a generator of its own."
)


def check_logits(model: nn.Module, x: Tensor, classes: int) -> Tensor:
    """Return the logits [B, N] of ``model`` on ``x`` [B, C, H, W].

    Raises:
        InputError: the model fails, or returns something else than finite logits [B, N] with N >= ``classes``.
    """
    with torch.no_grad():
        logits: Tensor = guarded(model)(x)
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model returns logits that are infinite or NaN on clean images; it cannot be evaluated.")
    if logits.shape[1] < classes:
        raise InputError(f"the model returns {logits.shape[1]} logits, but the images have {classes} classes.")
    return logits


def gradient_warnings(model: nn.Module, images: Images) -> list[str]:
    """Return the warnings of ``inspect`` about the gradient in the image; empty: attacks can follow it."""
    part = images.select(class_balanced(images.labels.cpu(), min(_IMAGES, len(images)), seed=0))
    return list(_gradients(guarded(model), to_float(part.images), part.labels))


def no_gradient(model: nn.Module, x: Tensor, y: Tensor) -> str | None:
    """Return why the loss has no gradient in the images ``x`` [B, C, H, W] with labels ``y`` [B]; None: it has one."""
    reason = _gradient(guarded(model), x, y)
    return reason if isinstance(reason, str) else None


def _gradient(model: GuardedModel, x: Tensor, y: Tensor) -> Tensor | str:
    """Return the gradient of the cross-entropy in ``x`` [B, C, H, W], or why there is none."""
    z = x.clone().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy_sum(model(z), y)
    if not loss.requires_grad:
        return "the loss has no gradient in the image at all (no_grad, detach, numpy or argmax in its forward pass)"
    try:
        (gradient,) = torch.autograd.grad(loss, z, allow_unused=True)
    except RuntimeError as error:
        return f"the backward pass of the model fails ({' '.join(str(error).split())})"
    if gradient is None:
        return "the loss does not depend on the image by gradients (the model detaches or rounds its input)"
    return gradient


def beyond_rounding(first: Tensor, others: Tensor) -> Tensor:
    """Return the images, bool [n], on which logits ``others`` [passes, n, N] differ in substance from ``first`` [n, N].

    Kernels that sum in another order each time differ in the last bits. Every logit is held to its own size, as one of
    -20,000 beside others of 5 says nothing of their rounding. Unless the prediction changes, a difference up to a
    thousandth of the lead of the first class over the second is allowed, or of the median lead if that is larger.
    """
    moved = others - first
    rounding = _ROUNDING * _precision(first) * torch.maximum(first.abs(), others.abs())
    best = first.topk(min(2, first.shape[1]), dim=1).values
    lead = best[:, 0] - best[:, -1]
    slack = 1e-3 * lead.clamp(min=float(lead.median()))
    apart = (moved.abs() > rounding + slack[:, None]).any(dim=2)

    before, after = first.argmax(1).expand(len(others), -1), others.argmax(2)

    def of(values: Tensor, classes: Tensor) -> Tensor:
        return values.gather(2, classes[..., None]).squeeze(2)

    turned = of(moved, after) - of(moved, before) > of(rounding, after) + of(rounding, before)
    return (apart | ((before != after) & turned)).any(dim=0)


def _precision(logits: Tensor) -> float:
    """Return the spacing of the floating-point numbers that ``logits`` were computed in, relative to their size."""
    for narrow in (torch.bfloat16, torch.float16):
        if torch.equal(logits, logits.to(narrow).to(logits.dtype)):
            return torch.finfo(narrow).eps
    return torch.finfo(logits.dtype).eps


def _probabilities(logits: Tensor) -> Iterator[str]:
    if bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all()):
        yield (
            "the model returns probabilities: attacks on the cross-entropy take them for logits, and a second softmax "
            "flattens their gradients. Return the logits, or the result flatters the model."
        )


def _random(changed: Tensor) -> str:
    share = float(changed.double().mean())
    return (
        f"the model is random in evaluation mode: two passes on the same image differ for {share:.0%} of {len(changed)}"
        " images (dropout or noise that stays on). A verdict is that of one draw, and gradients of one draw mislead "
        "attacks: the accuracy flatters the model. Switch the randomness off, or attack its expectation."
    )


def _batch(model: GuardedModel, x: Tensor, logits: Tensor) -> Iterator[str]:
    """Warn if the logits of an image depend on the other images of its batch."""
    if len(x) < 4:
        return
    positions = torch.arange(len(x), device=x.device)
    mixed = torch.cat([positions[::2], positions[1::2]])
    with torch.no_grad():
        parts = [model(x[part]) for part in mixed.tensor_split(min(4, len(x) // 2))]
    again = torch.empty_like(logits)
    again[mixed] = torch.cat(parts)
    yield from _depends_on_batch(beyond_rounding(logits, again[None]))


def _batch_of_random(model: GuardedModel, x: Tensor, devices: list[torch.device]) -> Iterator[str]:
    """Warn if the logits of a random model depend on the batch, or say that this cannot be judged.

    Every pass has the same draws and the same size. The images that are looked at keep their places, and the others are
    darkened, which changes the mean and the variance of the batch.
    """
    if len(x) < 2:
        return

    def passed(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):  # puts the draws back
            logits: Tensor = model(images)
        return logits

    logits = passed(x)
    if bool(beyond_rounding(logits, passed(x)[None]).any()):
        yield (
            "whether the logits change with the other images of their batch cannot be judged, since the model draws "
            "its random numbers outside torch's generators."
        )
        return
    changed = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    half = len(x) // 2
    for kept in (slice(None, half), slice(half, None)):
        others = 0.5 * x
        others[kept] = x[kept]
        changed[kept] = beyond_rounding(logits[kept], passed(others)[None, kept])
    yield from _depends_on_batch(changed)


def _depends_on_batch(changed: Tensor) -> Iterator[str]:
    if bool(changed.any()):
        yield (
            f"the logits of {float(changed.double().mean()):.0%} of {len(changed)} images change with the other images "
            "of their batch (batch norm on batch statistics): the verdicts depend on --batch-size and on the order of "
            "the images. Use running statistics in evaluation mode."
        )


def _scaling(model: GuardedModel, x: Tensor, y: Tensor, logits: Tensor) -> list[str]:
    """Warn if the model is far more accurate with another usual scaling than with its own, or on pixels in [0, 1].

    Of several such scalings the one with the least loss is named: one that is too wide is often as accurate.
    """
    plain = float((logits.argmax(dim=1) == y).double().mean())
    enough = plain + max(_GAIN, 1 / math.sqrt(len(x)))  # twice the deviation of an accuracy
    if enough >= 1.0:
        return []
    best, least, found = plain, math.inf, None
    layer = model.model.normalise if isinstance(model.model, Classifier) else None
    own = layer if isinstance(layer, Normalise) else None
    for scaling in _SCALINGS if own is None else (*_SCALINGS, _NONE):
        if len(scaling.mean) not in (1, x.shape[1]):
            continue
        centre, spread = (x.new_tensor(values).view(1, -1, 1, 1) for values in (scaling.mean, scaling.std))
        scaled = (x - centre) / spread
        try:
            with torch.no_grad():
                # the model's own normalisation undoes this
                given = scaled if own is None else scaled * own.std + own.mean
                answers = model(given)
        except InputError:
            continue  # the model refuses pixels outside [0, 1], so it does not expect them
        accuracy = float((answers.argmax(dim=1) == y).double().mean())
        loss = float(cross_entropy_sum(answers, y))
        if accuracy > enough and loss < least:
            best, least, found = accuracy, loss, scaling
    if found is None:
        return []
    mean, std = (["1/255" if value == 1 / 255 else f"{value:g}" for value in both] for both in (found.mean, found.std))
    told = f"as they come, in [0, 1], but {best:.0%} after {found.name}"
    if own is not None:
        told = f"with its normalisation, but {best:.0%} with {found.name} instead"
    return [
        f"the model classifies {plain:.0%} of the images correctly {told}. It seems to expect that: give --mean "
        f"{','.join(mean)} --std {','.join(std)} (in Python, nuat.models.adapt(module, mean=({', '.join(mean)},), "
        f"std=({', '.join(std)},)))."
    ]


def _gradients(model: GuardedModel, x: Tensor, y: Tensor) -> Iterator[str]:
    """Warn if the loss has no gradient in the image, so that attacks by gradients stand still."""
    gradient = _gradient(model, x, y)
    if isinstance(gradient, str):
        yield f"{gradient}; only black-box attacks (square) say anything about it."
        return
    broken = float((~torch.isfinite(gradient)).flatten(1).any(dim=1).double().mean())
    if broken > 0:
        yield (
            f"the gradient of the loss in the image is infinite or NaN for {broken:.0%} of {len(x)} images. It counts "
            "as 0 in those pixels, so attacks by gradients are weaker there. Believe black-box attacks (square)."
        )
    dead = float((gradient.flatten(1).abs().amax(dim=1) == 0).double().mean())
    if dead > 0.05:
        yield (
            f"the gradient of the loss in the image is exactly 0 for {dead:.0%} of {len(x)} images (saturated or "
            "masked): attacks on the cross-entropy stand still there. Believe margin and black-box attacks (gama-100, "
            "square)."
        )
