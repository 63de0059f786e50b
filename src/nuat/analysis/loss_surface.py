"""The loss around an image (Figure 1, section 6.3), and how rough it is.

| paper | here |
|---|---|
| x* = x + delta_1 g + delta_2 g_perp | ``surface`` over d1, d2 in [-extent eps, extent eps] |
| g, the sign of the gradient of the cross-entropy | ``g``, -1, 0 or +1 in each pixel |
| g_perp, an orthogonal direction | ``orthogonal_signs``: a random sign in each pixel, exactly orthogonal to g |

Figure 1 does not say how far its axes reach. Here they reach to eps by default: at d1 = eps, d2 = 0 stands the FGSM
example. Where both signs agree the pixels of a corner move by 2 eps. The plane is not clipped to [0, 1] unless asked:
the box would fold it, and the folds would count as roughness of the model.
"""

import math
import statistics
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nuat.analysis.models import NamedModel, Progress, generator, measured, numbers
from nuat.analysis.record import Measured, Subject
from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.data import ImageSet, to_float
from nuat.errors import InputError
from nuat.hardware import full_precision
from nuat.inspection import check_logits
from nuat.losses import cross_entropy_sum, wide
from nuat.threat import check_eps


@dataclass(frozen=True, kw_only=True)
class ModelSurface:
    """The loss of one model."""

    subject: Subject
    """The model."""
    loss: tuple[tuple[float, ...], ...]
    """[K][K] nats: cross-entropy, mean over the images; row d1, column d2."""
    roughness: tuple[float, ...]
    """[n] of each image, see ``roughness``."""
    deviation: tuple[float, ...]
    """[n] nats: root mean square deviation of each image's surface from the plane at the origin."""

    @property
    def mean_roughness(self) -> float:
        """What models are ranked by: the mean over the images."""
        return sum(self.roughness) / len(self.roughness)

    @property
    def standard_error(self) -> float | None:
        """Of the mean roughness over images drawn like these; none of a single image."""
        n = len(self.roughness)
        return statistics.stdev(self.roughness) / math.sqrt(n) if n > 1 else None

    @property
    def mean_deviation(self) -> float:
        """nats: mean over the images."""
        return sum(self.deviation) / len(self.deviation)


@dataclass(frozen=True, kw_only=True)
class LossSurface(Measured):
    """The surfaces of several models around the same images."""

    kind: ClassVar[str] = "loss-surface"

    positions: tuple[int, ...]
    """[n] of the images in the test set."""
    distances: tuple[float, ...]
    """[K] the values of d1, and of d2, in pixels of [0, 1], ascending, 0 in the middle."""
    clip: bool
    """Whether the images were clipped to [0, 1]."""
    models: tuple[ModelSurface, ...]
    """In the order asked for."""


def loss_surface(
    models: list[NamedModel],
    images: ImageSet,
    positions: Tensor,
    *,
    eps: float,
    extent: float = 1.0,
    resolution: int = 31,
    clip: bool = False,
    seed: int = 0,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> LossSurface:
    """Return the surfaces of ``models`` around the test images at ``positions`` (int64 [n]).

    Args:
        models: all on one device.
        images: the test images.
        positions: which of them.
        eps: radius of the Linf ball.
        extent: how far the axes reach, as a multiple of eps.
        resolution: points K of an axis, odd so that the image itself is one.
        clip: whether to clip the images to [0, 1].
        seed: of the orthogonal directions; the models share the draws.
        batch_size: points passed forward at once.
        progress: called after each image.

    Raises:
        InputError: a setting that cannot be, or a loss that is infinite or NaN.
    """
    check_eps("eps", eps)
    if resolution < 3 or resolution % 2 == 0:
        raise InputError(f"resolution={resolution}: expected an odd number of points, at least 3.")
    if not extent > 0:
        raise InputError(f"extent={extent:g}: expected a multiple of eps > 0.")
    axis = torch.linspace(-extent * eps, extent * eps, resolution, dtype=torch.float64)
    axis[resolution // 2] = 0.0
    chosen = images.select(positions).to(models[0].device)
    x, y = to_float(chosen.images), chosen.labels
    found = []
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            check_logits(named.model, x[:1], int(images.labels.max()) + 1)
            each = []
            for i in range(len(x)):
                draws = generator(seed, int(positions[i]))
                each.append(surface(named.model, x[i], y[i], axis, draws, clip=clip, batch_size=batch_size))
                if progress is not None:
                    progress(named.subject.name, i + 1, len(x))
        loss = torch.stack([one for one, _ in each])
        rough = [roughness(one, slope, axis) for one, slope in each]
        found.append(
            ModelSurface(
                subject=named.subject,
                loss=numbers(loss.mean(dim=0)),
                roughness=numbers(torch.tensor([relative for relative, _ in rough])),
                deviation=numbers(torch.tensor([nats for _, nats in rough])),
            )
        )
    return LossSurface(
        **measured(chosen, models[0].device, seed=seed, eps=eps),
        positions=tuple(positions.tolist()),
        distances=numbers(axis),
        clip=clip,
        models=tuple(found),
    )


def surface(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    axis: Tensor,
    draws: torch.Generator,
    *,
    clip: bool = False,
    batch_size: int = 250,
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy [K, K] of an image ``x`` [C, H, W] over ``axis`` x ``axis``, and its slopes [2] there.

    Both in float64 on the CPU; ``y`` is the label, a scalar; ``draws`` is a generator of the CPU.
    """
    gradient = input_gradient(lambda z: cross_entropy_sum(model(z), y[None]), x[None])[0]
    g = gradient.sign()
    g_perp = orthogonal_signs(g, draws)
    slopes = torch.stack([(gradient.double() * g).sum(), (gradient.double() * g_perp).sum()]).cpu()
    grid = torch.cartesian_prod(axis, axis).to(x.device)
    losses = []
    for start in range(0, len(grid), batch_size):
        part = grid[start : start + batch_size]
        d1, d2 = part.to(x.dtype).view(-1, 2, 1, 1, 1).unbind(dim=1)
        points = x + d1 * g + d2 * g_perp
        with torch.no_grad():
            logits = wide(model(points.clamp(0.0, 1.0) if clip else points))
        losses.append(torch.nn.functional.cross_entropy(logits, y.expand(len(logits)), reduction="none"))
    loss = torch.cat(losses).double().cpu().view(len(axis), len(axis))
    if not bool(torch.isfinite(loss).all()):
        raise InputError("the loss is infinite or NaN near a test image, so its surface cannot be drawn.")
    return loss, slopes


def orthogonal_signs(g: Tensor, draws: torch.Generator) -> Tensor:
    """Return a random direction of signs that is exactly orthogonal to the signs ``g`` [C, H, W], of that shape.

    Of the pixels where g is not 0, a random half agrees with it and half does not; where their number is odd, one is
    left at 0. Elsewhere the sign is random. Among the sign vectors that are orthogonal to g each is as likely.
    """
    flat = g.flatten().cpu()
    moved = flat.nonzero().squeeze(1)
    moved = moved[torch.randperm(len(moved), generator=draws)]
    half = len(moved) // 2
    found = (2 * torch.randint(0, 2, flat.shape, generator=draws) - 1).to(flat.dtype)
    found[moved] = 0.0
    found[moved[:half]] = flat[moved[:half]]
    found[moved[half : 2 * half]] = -flat[moved[half : 2 * half]]
    return found.view_as(g).to(g.device)


def roughness(loss: Tensor, slopes: Tensor, axis: Tensor) -> tuple[float, float]:
    """Return how far a surface [K, K] is from the plane at its origin: relative, and in nats.

    The plane is the first-order forecast that a single-step attack trusts: the loss at the origin plus ``slopes`` [2]
    times the distances. In nats, the root mean square of the surface's deviation from it; relative, that divided by
    the root mean square of the loss's own change from the origin. 0: a plane; 1: as far off as a forecast of no
    change; above 1: the gradient misleads. The relative one ranks models: in nats a model that is merely bad, whose
    loss rises steeply, is far from its plane, and a masked one, whose loss hardly follows its large gradient, is not.
    """
    change = loss - loss[len(axis) // 2, len(axis) // 2]
    forecast = slopes[0] * axis[:, None] + slopes[1] * axis[None, :]
    nats = float((change - forecast).square().mean().sqrt())
    scale = float(change.square().mean().sqrt())
    return (nats / scale if scale > 0 else float(nats > 0)), nats
