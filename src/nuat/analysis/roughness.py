"""How rough a model is around an image: how far its margin is from the plane that touches it there.

The margin, the largest other logit minus the label's, is taken over the same kind of grid as the surface of the loss
(``loss_surface``): along g, the sign of the margin's gradient, and along random signs orthogonal to it, both within
eps / 3. The ratio is 0 for a plane, 1 where the gradient forecasts no better than a forecast of no change, above 1
where it misleads. Of several images the median counts: a few images that hardly change have any ratio.

Not the cross-entropy, because on confident images it is flat and then turns: its ratio goes to 1 for any model that is
confident, collapsed or not. Not within eps, because there many models bend.

Smooth does not mean robust: a regulariser of the gradient can make a model smooth that no image of survives a strong
attack. Roughness says whether attacks of few steps can be trusted, not what a model withstands.
"""

import torch
from torch import Tensor, nn

from nuat.attacks.base import input_gradient
from nuat.core.losses import logit_margin, margin_sum
from nuat.errors import InputError

WITHIN = 1 / 3
"""How far the grid reaches, as a multiple of eps."""
POINTS = 9
"""Of each axis of the grid, odd so that the image is one."""


def roughness(model: nn.Module, x: Tensor, y: Tensor, eps: float, draws: torch.Generator) -> float:
    """Return the roughness of ``model`` around the image ``x`` [C, H, W] of label ``y``, a scalar tensor.

    Args:
        model: images [B, C, H, W] to logits [B, N], N >= 2.
        x: pixels in [0, 1]; the grid is not clipped to them, for the box would fold the plane.
        y: int64.
        eps: radius of the Linf ball.
        draws: of the orthogonal direction, a generator of the CPU.

    Raises:
        InputError: a margin that is infinite or NaN.
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
    """Return how far ``values`` [K, K] over ``axis`` x ``axis`` are from the plane at their middle.

    The plane is the value in the middle plus ``slopes`` [2] times the distances; the root mean square of the deviation
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
