"""Inspection of a model before its robustness is believed: its input, its gradient, its randomness, its classes.

Each check that finds something returns a warning; a model that cannot be evaluated raises instead. Randomness and
gradients are looked at with images in [0, 1] alone, as some models refuse any other.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nuat.attacks import eval_mode
from nuat.attacks.base import gradient_of
from nuat.core.losses import cross_entropy_sum
from nuat.data import Images, class_balanced, to_float
from nuat.errors import InputError
from nuat.evaluation.class_order import accuracy_warning, order_warning
from nuat.evaluation.guarded_model import ClimbableModel, GuardedModel, guarded
from nuat.evaluation.scaling import scaling_warning
from nuat.hardware import full_precision

_IMAGES = 200
_FEW = 32
"""Images on which a model shows that it answers by memory."""
_STEP = 2 / 255
"""Step along the gradient, per pixel, that must not lower the loss."""
_ASTRAY = 0.25
"""Share of images that may be: 0 % of digits for sound networks, up to 15 % for logits of 8 bits, 57 % at random."""
_IS_RANDOM = "the model is random in evaluation mode"
_MIXES = "change with the other images of their batch"
_ROUNDING = 16
"""Units in the last place of a logit that the order of a sum may change."""


def inspect(
    model: nn.Module, images: Images, *, order: Sequence[int] | None = None, classes: int = 0, batch_size: int = _IMAGES
) -> list[str]:
    """Return warnings about ``model``, looked at in evaluation mode on a class-balanced part of ``images``.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        images: images with labels.
        order: the logit of the model for each class, see ``GuardedModel``. None: logit i is class i.
        classes: classes of the images, where more are known than the labels show.
        batch_size: images that the model can take at once; as many are looked at, from 32 to 200.

    Returns:
        One sentence or two for each finding; empty for a good model.

    Raises:
        InputError: there are no images, the model fails, or it does not return finite logits [B, N] for all classes.
    """
    if len(images) == 0:
        raise InputError("there are no images to evaluate on.")
    guard = guarded(model, order)
    shown = int(images.labels.max()) + 1
    device = next((p.device for p in model.parameters()), images.device)
    several = min(_IMAGES, max(_FEW, batch_size), len(images))
    part = images.select(class_balanced(images.labels.cpu(), several, seed=0)).to(device)
    x, y = to_float(part.images), part.labels
    devices = [device] if device.type == "cuda" else []
    # the model's own draws leave torch's generators as they were
    with torch.random.fork_rng(devices=devices), eval_mode(guard), full_precision():
        guard.watched = True
        try:
            logits = check_logits(guard, x, shown)
            classes = min(max(classes, shown), logits.shape[1])
            torch.rand((), device=device)  # passes of a model that seeds begin in different states and end in one
            random = beyond_rounding(logits, check_logits(guard, x, shown)[None])
            check_logits(guard, _between(x), shown)
            _check_memory(guard, x[:_FEW])
            steady = not bool(random.any())
            found = [*_probabilities(logits), *_gradients(guard, x, y, logits if steady else None)]
            if not steady:
                found += [_random(random), *_batch_of_random(guard, x, devices)]
            else:
                found += _batch(guard, x, logits)
            # of the causes of a low accuracy the first that is found is named
            found += (
                order_warning(logits, y, classes)
                or (scaling_warning(guard, x, y, logits) if steady else [])
                or accuracy_warning(logits, y, classes)
            )
        finally:
            guard.watched = False
    return [*[_WRITES] * guard.wrote, *[_SEEDS] * guard.reseeds, *found]


def unsteady(found: list[str]) -> str:
    """Return why logits hang on more than their image, by the warnings of ``inspect``; empty: nothing says so."""
    if any(_IS_RANDOM in warning for warning in found):
        return _IS_RANDOM
    return f"the logits {_MIXES}" if any(_MIXES in warning for warning in found) else ""


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
    return list(_gradients(guarded(model), to_float(part.images), part.labels, None))


def change_warnings(model: nn.Module, x: Tensor, logits: Tensor) -> Iterator[str]:
    """Warn if two passes on ``x`` [B, C, H, W] agree, but not with the ``logits`` [B, N] before the attacks."""
    with torch.no_grad():
        now = model(x)
        changed = beyond_rounding(logits, now[None])
        random = bool(changed.any()) and bool(beyond_rounding(now, model(x)[None]).any())
    if bool(changed.any()) and not random:
        yield (
            f"the model changes as it is used: it answers {int(changed.sum())} of the first {len(x)} images otherwise "
            "than before the attacks (a counter, a cache, or weights that adapt). The verdicts are not those of one "
            "model; evaluate one that stays as it is."
        )


def lost_gradients(*models: ClimbableModel) -> Iterator[str]:
    """Warn if gradients of the models were infinite or NaN, or did not reach the image."""
    distinct = {id(model): model for model in models}.values()
    bad, passed = sum(m.counts.nonfinite for m in distinct), sum(m.counts.backwards for m in distinct)
    if bad > 0:
        yield (
            f"the gradient in the image was infinite or NaN in {bad:,} of {passed:,} backward passes of an image. It "
            "counted as 0 in those pixels, so attacks by gradients are weaker than they seem; check with square."
        )
    unreached = sum(m.counts.unreached for m in distinct)
    if unreached > 0:
        yield (
            f"the model gave no gradient in the image in {unreached:,} passes of an image. It counted as 0, so attacks "
            "by gradients stood still there; believe black-box attacks (square) alone."
        )


def no_gradient(model: nn.Module, x: Tensor, y: Tensor) -> str | None:
    """Return why the loss has no gradient in the images ``x`` [B, C, H, W] with labels ``y`` [B]; None: it has one."""
    reason = _gradient(guarded(model), x, y)[0]
    return reason if isinstance(reason, str) else None


def _gradient(model: GuardedModel, x: Tensor, y: Tensor) -> tuple[Tensor | str, Tensor]:
    """Return the gradient of the cross-entropy in ``x`` [B, C, H, W], or why there is none; and the logits [B, N]."""
    z = x.clone().requires_grad_()
    with torch.enable_grad():
        logits = model(z)
        loss = cross_entropy_sum(logits, y)
    climbed = logits.detach()
    if not loss.requires_grad:
        why = "the loss has no gradient in the image at all (no_grad, detach, numpy or argmax in its forward pass)"
        return why, climbed
    try:
        gradient = gradient_of(loss, z)
    except InputError as error:
        return str(error).removesuffix("."), climbed
    if gradient is None:
        return "the loss does not depend on the image by gradients (the model detaches or rounds its input)", climbed
    return gradient, climbed


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


def _check_memory(model: GuardedModel, x: Tensor) -> None:
    """Refuse a model that answers by the memory of its input."""
    model.one_place = True
    try:
        with torch.no_grad():
            logits, others = model(x), model(0.5 * x.flip(0))
    finally:
        model.one_place = False
    if torch.equal(logits, others) and not torch.equal(logits, logits[:1].expand_as(logits)):
        raise InputError(
            "the model answers other images in the same memory as the images before (it keeps answers by id() or "
            "data_ptr() of its input), so no answer can be believed; let it keep none."
        )


def _probabilities(logits: Tensor) -> Iterator[str]:
    if bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 1e-3).all()):
        yield (
            "the model returns probabilities: attacks on the cross-entropy take them for logits, and a second softmax "
            "flattens their gradients. Return the logits, or the result flatters the model."
        )


def _random(changed: Tensor) -> str:
    share = float(changed.double().mean())
    return (
        f"{_IS_RANDOM}: two passes on the same image differ for {share:.0%} of {len(changed)} images (dropout or noise "
        "that stays on). A verdict is that of one draw, and gradients of one draw mislead attacks: the accuracy "
        "flatters the model. Switch the randomness off, or attack its expectation."
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
            f"the logits of {float(changed.double().mean()):.0%} of {len(changed)} images {_MIXES} "
            "(batch norm on batch statistics): the verdicts depend on --batch-size and on the order of the images. Use "
            "running statistics in evaluation mode."
        )


def _gradients(model: GuardedModel, x: Tensor, y: Tensor, logits: Tensor | None) -> Iterator[str]:
    """Warn if attacks by gradients fail: they climb another function, or there is no gradient, or it leads down.

    Where it leads is seen in comparison with ``logits``, the model's [B, N] on ``x``. None: it is not looked at, as of
    a random model.
    """
    gradient, climbed = _gradient(model, x, y)
    changed = 0 if logits is None else int(beyond_rounding(logits, climbed[None]).sum())
    if changed:
        yield (
            f"the model answers {changed} of {len(x)} images otherwise where a gradient is wanted (it asks "
            "requires_grad or is_grad_enabled()): attacks by gradients climb another function than the one that is "
            "judged, and may find too little. Rely on black-box attacks (square)."
        )
    if isinstance(gradient, str):
        yield f"{gradient}; only black-box attacks (square) say anything about it."
        return
    broken = float((~torch.isfinite(gradient)).flatten(1).any(dim=1).double().mean())
    if broken > 0:
        yield (
            f"the gradient of the loss in the image is infinite or NaN for {broken:.0%} of {len(x)} images. It counts "
            "as 0 in those pixels, so attacks by gradients are weaker there. Rely on black-box attacks (square)."
        )
    if logits is not None and broken == 0:
        with torch.no_grad():
            stepped = model((x + _STEP * gradient.sign()).clamp(0.0, 1.0))
        falls = cross_entropy(stepped, y, reduction="none") < cross_entropy(logits, y, reduction="none")
        share = float(falls.double().mean())
        if share > _ASTRAY:
            yield (
                f"a small step along the gradient, of 2/255 in each pixel, lowers the loss of {share:.0%} of {len(x)} "
                "images instead of raising it (a backward pass that is not the forward pass's): attacks by gradients "
                "are led astray. Rely on black-box attacks (square)."
            )
    least = torch.finfo(gradient.dtype).tiny  # below it numbers lose their digits
    dead = float((gradient.flatten(1).abs().amax(dim=1) < least).double().mean())
    if dead > 0.05:
        yield (
            f"the gradient of the loss in the image is exactly 0 for {dead:.0%} of {len(x)} images (saturated or "
            "masked): attacks on the cross-entropy and on probabilities make no progress there. Rely on square and, if "
            "the logits are merely too large, on apgd-dlr, whose loss has no scale."
        )
