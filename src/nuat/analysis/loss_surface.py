"""The loss around an image (Figure 1, section 6.3), and beside it how rough the model is there.

| paper | here |
|---|---|
| x* = x + delta_1 g + delta_2 g_perp | ``surface`` over d1, d2 in [-extent eps, extent eps] |
| g, the sign of the gradient of the cross-entropy | ``g``, -1, 0 or +1 in each pixel |
| g_perp, an orthogonal direction | ``orthogonal_signs``: a random sign in each pixel, exactly orthogonal to g |

Figure 1 does not say how far its axes reach. Here they reach to eps by default: at d1 = eps, d2 = 0 stands the FGSM
example. Where both signs agree the pixels of a corner move by 2 eps. The plane is not clipped to [0, 1] unless asked:
the box would fold it. Of several images the surface is the mean, and since random directions differ, the mean is
smoother than each of them: models are ranked by ``nuat.analysis.roughness``, which is measured image by image.
"""

import statistics
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nuat.analysis.models import NamedModel, Progress, check_all, generator, measured, numbers
from nuat.analysis.record import Measured, Subject
from nuat.analysis.roughness import WITHIN, grid_axis, orthogonal_signs, roughness
from nuat.attacks import eval_mode
from nuat.attacks.base import input_gradient
from nuat.core.losses import cross_entropy_sum, wide
from nuat.core.threat import check_eps
from nuat.data import Images, to_float
from nuat.errors import InputError
from nuat.hardware import full_precision


@dataclass(frozen=True, kw_only=True)
class ModelSurface:
    """The loss of one model."""

    subject: Subject
    """The model."""
    loss: tuple[tuple[float, ...], ...]
    """[K][K] nats: cross-entropy, mean over the images; row d1, column d2."""
    roughness: tuple[float, ...]
    """[n] of each image: deviation of the margin from its tangent plane, see ``nuat.analysis.roughness``."""

    @property
    def median_roughness(self) -> float:
        """What models are ranked by."""
        return statistics.median(self.roughness)

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """Roughness that a quarter of the images stays below, and that a quarter exceeds; none of a single image."""
        if len(self.roughness) < 2:
            return None
        low, _, high = statistics.quantiles(self.roughness, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True, kw_only=True)
class LossSurface(Measured):
    """The surfaces of several models around the same images."""

    kind: ClassVar[str] = "loss-surface"

    positions: tuple[int, ...]
    """[n] of the images in the test set."""
    distances: tuple[float, ...]
    """[K] the values of d1, and of d2, in pixels of [0, 1], ascending, 0 in the middle."""
    clip: bool
    """Whether the images of the surface were clipped to [0, 1]."""
    within: float
    """Half the side of the grid that the roughness is of, in pixels of [0, 1]; never clipped."""
    models: tuple[ModelSurface, ...]
    """In the order asked for."""


def loss_surface(
    models: list[NamedModel],
    images: Images,
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
        clip: whether to clip the images of the surface to [0, 1]; those of the roughness never are.
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
    axis = grid_axis(extent * eps, resolution)
    chosen = images.select(positions).to(models[0].device)
    x, y = to_float(chosen.images), chosen.labels
    check_all(models, images)
    found = []
    for named in models:
        with eval_mode(named.model), full_precision(), torch.inference_mode(False):
            losses, rough = [], []
            for i in range(len(x)):
                # the same seed for both: where both gradients have the same signs, so have the directions
                draws = [generator(seed, int(positions[i])) for _ in range(2)]
                losses.append(surface(named.model, x[i], y[i], axis, draws[0], clip=clip, batch_size=batch_size))
                rough.append(roughness(named.model, x[i], y[i], eps, draws[1]))
                if progress is not None:
                    progress(named.subject.name, i + 1, len(x))
        found.append(
            ModelSurface(
                subject=named.subject,
                loss=numbers(torch.stack(losses).mean(dim=0)),
                roughness=numbers(torch.tensor(rough)),
            )
        )
    return LossSurface(
        **measured(chosen, models[0].device, seed=seed, eps=eps),
        positions=tuple(positions.tolist()),
        distances=numbers(axis),
        clip=clip,
        within=WITHIN * eps,
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
) -> Tensor:
    """Return the cross-entropy [K, K] of an image ``x`` [C, H, W] over ``axis`` x ``axis``, float64 on the CPU.

    ``y`` is the label, a scalar; ``draws`` is a generator of the CPU.
    """
    g = input_gradient(lambda z: cross_entropy_sum(model(z), y[None]), x[None])[0].sign()
    g_perp = orthogonal_signs(g, draws)
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
    return loss
