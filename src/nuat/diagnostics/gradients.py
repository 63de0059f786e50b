"""Checks of the gradients: that they are not 0, that they are finite, and that they agree nearby."""

from math import ceil

import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.base import gradient_of
from nuat.core.intervals import Z_95
from nuat.core.losses import cross_entropy_sum
from nuat.core.threat import Threat
from nuat.diagnostics.share import Share
from nuat.diagnostics.verdict import Status, Verdict, excluding, in_parts

_ZERO_SHARE, _TOO_MANY = 0.01, 0.05
_ALIGNED = 0.2


def judge_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Verdict:
    """Judge whether the loss has a finite gradient other than 0 in the images ``x`` [n, C, H, W]."""
    gradient = loss_gradient(model, x, y)
    norms = gradient.flatten(1).abs().amax(dim=1)
    broken = ~torch.isfinite(norms)
    finite = norms[~broken]
    dead = Share(int((norms == 0).sum()), len(x))
    decided = dead.judge(allowed=_ZERO_SHARE, excluded=_TOO_MANY)
    if bool(broken.any()):
        status, meaning = Status.FAIL, "the gradient explodes: no attack can follow it."
    elif decided is Status.FAIL:
        status = Status.FAIL
        meaning = "the gradient vanishes exactly: attacks that follow it stand still, and the model only seems robust."
    elif decided is Status.PASS:
        status, meaning = Status.PASS, "there is a gradient to follow."
    else:
        needed = dead.images_needed(allowed=_ZERO_SHARE, excluded=_TOO_MANY)
        status, meaning = Status.INCONCLUSIVE, f"{dead.n} images cannot tell; about {needed:,} would."
    return Verdict(
        check="gradients neither vanish nor explode",
        status=status,
        measured={
            "zero_share": dead.value,
            "interval": list(dead.interval),
            "not_finite": int(broken.sum()),
            "median_largest_component": float(finite.median()) if len(finite) else None,
            "n": dead.n,
        },
        threshold=excluding(
            f"the gradient is finite, and exactly 0 for at most {_ZERO_SHARE:.0%} of the images", _TOO_MANY, "%"
        ),
        meaning=meaning,
        shown=f"{dead.value:.1%} zero" + f", {int(broken.sum())} not finite" * bool(broken.any()),
    )


def judge_linearity(model: nn.Module, x: Tensor, y: Tensor, *, ball: Threat, generator: torch.Generator) -> Verdict:
    """Judge whether gradients agree between an image and a random point of its ``ball``.

    Gradient alignment: the mean cosine of grad L(x) and grad L(x + eta), eta uniform in the ball (Andriushchenko and
    Flammarion 2020, section 4); near 0 after catastrophic overfitting. Curvature is how far the loss after one
    ascent step across the ball (Linf: the FGSM example) is from its linear forecast, relative to it. The threshold is
    our choice. The check is inconclusive if the gradients of two passes on the image itself differ as much.
    """
    here, again = loss_gradient(model, x, y), loss_gradient(model, x, y)
    moved = ball.bounds(x).project(x + ball.uniform(x, generator))
    cosines = _cosines(here, loss_gradient(model, moved, y))
    unmoved = 1.0 if torch.equal(here.nan_to_num(), again.nan_to_num()) else float(_cosines(here, again).mean())
    mean, n = float(cosines.mean()), len(x)
    error = Z_95 * float(cosines.std()) / n**0.5 if n > 1 else 2.0  # one image gives no interval
    low, high = max(-1.0, mean - error), min(1.0, mean + error)
    if high < _ALIGNED and unmoved < 2 * _ALIGNED:
        status = Status.INCONCLUSIVE
        meaning = "the model is random: its gradients turn from one pass to the next on the image itself."
    elif high < _ALIGNED:
        status = Status.FAIL
        meaning = "gradients turn within the ball: the loss is not locally linear, as after catastrophic overfitting."
    elif low > _ALIGNED:
        status, meaning = Status.PASS, "the loss is nearly linear within the ball, so single gradients mean something."
    else:
        needed = ceil(n * (error / max(abs(mean - _ALIGNED), 1e-3)) ** 2) + 1
        status, meaning = Status.INCONCLUSIVE, f"{n} images cannot tell; about {needed:,} would."
    return Verdict(
        check="the loss is locally linear",
        status=status,
        measured={
            "gradient_alignment": mean,
            "interval": [low, high],
            "alignment_of_two_passes": unmoved,
            "curvature": _curvature(model, x, y, here, ball),
            "n": len(x),
        },
        threshold=f"gradient alignment of at least {_ALIGNED} (ours; PASS: less is excluded)",
        meaning=meaning,
        shown=f"cosine {mean:.2f} [{low:.2f}, {high:.2f}]",
    )


def loss_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy in each image, [n, C, H, W]; 0 if the graph does not reach it."""
    return torch.cat([_gradient_at_once(model, *part) for part in in_parts(x, y)])


def _gradient_at_once(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = x.clone().requires_grad_()
    with eval_mode(model), torch.enable_grad():
        loss = cross_entropy_sum(model(z), y)
        if not loss.requires_grad:
            return torch.zeros_like(x)
        gradient = gradient_of(loss, z)
    return torch.zeros_like(x) if gradient is None else gradient


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of each pair of gradients, [n]; 0 if one is 0 or not finite."""
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).nan_to_num()


def _curvature(model: nn.Module, x: Tensor, y: Tensor, gradient: Tensor, ball: Threat) -> float | None:
    """Return |L(x') - L(x) - grad L(x) (x' - x)| / |grad L(x) (x' - x)| of the sums, x' one ascent step from x."""
    moved = ball.bounds(x).project(x + ball.ascent(gradient, ball.eps, x))
    rise = 0.0
    with eval_mode(model), torch.no_grad():
        for z, origin, label in in_parts(moved, x, y):
            rise += float(cross_entropy_sum(model(z), label) - cross_entropy_sum(model(origin), label))
    forecast = float((gradient * (moved - x)).sum())
    return abs(rise - forecast) / forecast if forecast > 0 else None
