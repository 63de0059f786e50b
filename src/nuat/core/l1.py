"""The L1 ball within the box: sparse ascent steps and the exact projection (Croce and Hein 2021, sections 3 and 4)."""

import torch
from torch import Tensor

from nuat.core.losses import wide
from nuat.core.random import Source, uniform

SHARE = 0.05
"""Share of an image's pixels and channels over which a step of the whole radius is spread."""


def sparse_step(gradient: Tensor, alpha: float, reach: float, x: Tensor | None) -> Tensor:
    """Return the steepest step of L1 size ``alpha`` whose every component is at most ``reach``, [B, C, H, W].

    The components with the largest gradients take ``reach`` each, until ``alpha`` is spent: all but the last of them
    move equally, as in APGD's sparse step. Given the images ``x`` at which the step begins, a component takes no more
    than the box leaves it, and the next largest takes the rest.
    """
    flat = wide(gradient.flatten(1))
    room = torch.ones_like(flat) * reach
    if x is not None:
        start = x.flatten(1).to(flat.dtype)
        room = torch.minimum(room, torch.where(flat > 0, 1.0 - start, start).clamp(min=0.0))
    order = flat.abs().argsort(dim=1, descending=True)
    room = room.gather(1, order)
    spent = room.cumsum(dim=1) - room
    size = torch.minimum((alpha - spent).clamp(min=0.0), room)
    step = flat.sign() * torch.zeros_like(flat).scatter(1, order, size)
    return step.view_as(gradient).to(gradient.dtype)


def shortened(delta: Tensor, room: Tensor, eps: float) -> Tensor:
    """Return, for each row, the nearest point to ``delta`` [B, d] of L1 norm <= eps with |component| <= ``room``.

    Its components are sign(delta) * clamp(|delta| - t, 0, room), with the least t >= 0 that fits. The norm falls
    piecewise linearly in t, and bends where |delta| or |delta| - room equals t; sorting these gives the piece, and the
    piece gives t. (Their Proposition 2; ``room`` [B, d] is infinite for the ball alone.)
    """
    size = delta.abs()
    points = torch.cat([size, (size - room).clamp(min=0.0)], dim=1)
    points, order = points.sort(dim=1, descending=True)
    weight = torch.where(order < size.shape[1], 1.0, -1.0).to(size.dtype)  # of the pieces that begin and end there
    total, slope = (weight * points).cumsum(dim=1), weight.cumsum(dim=1)
    norm = total - slope * points  # at each point; it grows towards t = 0
    # the last point below eps begins the piece; rounding may leave a slope of 0 only where the norm stays the same
    piece = (norm < eps).sum(dim=1, keepdim=True).sub(1).clamp(min=0)
    t = (total.gather(1, piece) - eps) / slope.gather(1, piece).clamp(min=1.0)
    return delta.sign() * torch.minimum((size - t.clamp(min=0.0)).clamp(min=0.0), room)


def laplace(x: Tensor, source: Source = None) -> Tensor:
    """Return standard Laplace draws like ``x``: divided by its L1 norm, such a vector is uniform on the L1 sphere."""
    draw = 2.0 * uniform(x.shape, source, x) - 1.0
    return -draw.sign() * torch.log((1.0 - draw.abs()).clamp(min=torch.finfo(x.dtype).tiny))
