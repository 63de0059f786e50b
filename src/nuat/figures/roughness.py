"""Roughness of a model around an image: distance of its margin from the tangent plane there.

The margin (largest other logit minus that of the label) is taken over the same kind of grid as the loss surface: along
g, the sign of its gradient, and along random signs orthogonal to g, both within eps / 3. The ratio is 0 for a plane, 1
where the gradient forecasts no better than no change at all, and above 1 where it misleads. Of several images the
median counts: a few images that hardly change may have any ratio.

The cross-entropy would not do. On confident images it is flat and then turns, so its ratio goes to 1 for any confident
model, collapsed or not. A radius of eps would not do either: many models bend within it.

Smooth does not mean robust: a regulariser of the gradient can make a model smooth although no image withstands a strong
attack. Roughness says whether attacks of few steps can be trusted, not what a model withstands.
"""

import torch
from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.core.losses import logit_margin, margin_sum
from nuat.errors import InputError

WITHIN = 1 / 3
"""Reach of the grid, as a multiple of eps."""
POINTS = 9
"""Points of each axis of the grid, odd so that the image is one."""


def roughness(model: nn.Module, x: Tensor, y: Tensor, eps: float, draws: torch.Generator) -> float:
    """Return the roughness of ``model`` around the image ``x`` [C, H, W] with the label ``y``, a scalar tensor.

    Args:
        model: images [B, C, H, W] to logits [B, N], N >= 2.
        x: pixels in [0, 1]. The grid is not clipped to them: the box would fold the plane.
        y: int64.
        eps: radius of the Linf ball.
        draws: CPU generator of the orthogonal direction.

    Raises:
        InputError: a margin is infinite or NaN.
    """
    axis = grid_axis(WITHIN * eps, POINTS)
    gradient = input_gradient(lambda z: margin_sum(model(z), y[None]), x[None])[0]
    g = gradient.sign()
    g_perp = orthogonal_signs(g, draws)
    slopes = torch.stack([(gradient.double() * g).sum(), (gradient.double() * g_perp).sum()]).cpu()
    d1, d2 = torch.cartesian_prod(axis, axis).to(x.device, x.dtype).view(-1, 2, 1, 1, 1).unbind(dim=1)
    with torch.no_grad():
        logits = model(x + d1 * g + d2 * g_perp)
        margins = logit_margin(logits, y.expand(len(logits)))
    if not bool(torch.isfinite(margins).all()):
        raise InputError("the logits are infinite or NaN near a test image, so its roughness cannot be measured.")
    return from_plane(margins.double().cpu().view(POINTS, POINTS), slopes, axis)


def from_plane(values: Tensor, slopes: Tensor, axis: Tensor) -> float:
    """Return the relative distance of ``values`` [K, K] over ``axis`` x ``axis`` from the plane at their middle.

    The plane is the value in the middle plus ``slopes`` [2] times the distances. The root mean square of the deviation
    from it is divided by the root mean square of the change from the middle.
    """
    change = values - values[len(axis) // 2, len(axis) // 2]
    forecast = slopes[0] * axis[:, None] + slopes[1] * axis[None, :]
    off = float((change - forecast).square().mean().sqrt())
    scale = float(change.square().mean().sqrt())
    return off / scale if scale > 0 else float(off > 0)


def grid_axis(reach: float, points: int) -> Tensor:
    """Return float64 [points] from -reach to reach, exactly 0 in the middle."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    axis[points // 2] = 0.0
    return axis


def orthogonal_signs(g: Tensor, draws: torch.Generator) -> Tensor:
    """Return random signs, shaped like the signs ``g`` [C, H, W] and exactly orthogonal to them.

    In a random half of the pixels where g is not 0 they agree with g, in the other half they do not; of an odd number
    one is left at 0. Elsewhere the sign is random. All sign vectors orthogonal to g are equally likely.
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
