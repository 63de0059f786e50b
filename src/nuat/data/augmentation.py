"""Random crops and flips of a whole batch, on the device of the images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nuat.core.random import Source, integers, uniform

_STRETCH = 4 / 3
"""Largest ratio of a crop's sides, relative to the image's; the usual value on ImageNet."""


def random_crop(images: Tensor, padding: int, source: Source) -> Tensor:
    """Pad each image with zeros and cut out a window of its original size at a random place.

    Args:
        images: [B, C, H, W] of any type.
        padding: zeros [pixels] on each side, >= 0. With 0 the images are returned and nothing is drawn.
        source: generator on the device of the images; 2 B integers are drawn from it.

    Returns:
        New images [B, C, H, W] of the same type.

    Example:
        >>> import torch
        >>> from nuat.data import random_crop
        >>> images = torch.ones(2, 1, 4, 4)
        >>> random_crop(images, 1, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 4, 4])
    """
    if padding == 0:
        return images
    batch, _, height, width = images.shape
    device = images.device
    top, left = integers(2 * padding + 1, (2, batch), source, device, images=1)
    padded = F.pad(images, [padding] * 4)
    # a view of every window [B, C, 2 padding + 1, 2 padding + 1, H, W]; only the chosen ones are copied
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=device), :, top, left]


def random_resized_crop(images: Tensor, scale: float, source: Source) -> Tensor:
    """Cut a random box out of each image and resize it to the image's own size (bilinear).

    The box's area is uniform in [scale, 1] times the image's. The ratio of its sides, relative to the image's, is
    log-uniform in [3/4, 4/3]; for a large box this range is cut to what fits into the image. Its place is uniform.

    Args:
        images: uint8 [B, C, H, W].
        scale: least area, in (0, 1).
        source: generator on the device of the images; 4 B numbers are drawn from it.

    Returns:
        New images uint8 [B, C, H, W], rounded.
    """
    drawn = uniform((4, len(images)), source, images.new_empty((), dtype=torch.float32), images=1)
    area = scale + (1.0 - scale) * drawn[0]
    # both sides, sqrt(area * ratio) and sqrt(area / ratio), are at most 1 if the ratio is in [area, 1 / area]
    log_ratio = (2.0 * drawn[1] - 1.0) * (-area.log()).clamp(max=math.log(_STRETCH))
    width, height = (area * log_ratio.exp()).sqrt(), (area / log_ratio.exp()).sqrt()
    # the box's centre in affine_grid's coordinates, in which the image reaches from -1 to 1
    right, down = (1.0 - width) * (2.0 * drawn[2] - 1.0), (1.0 - height) * (2.0 * drawn[3] - 1.0)
    zero = torch.zeros_like(area)
    theta = torch.stack([width, zero, right, zero, height, down], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # a box at the edge reaches half a pixel past the centres of the outermost ones
    resized = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return resized.round().to(torch.uint8)


def random_flip(images: Tensor, source: Source) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        images: [B, C, H, W] of any type.
        source: generator on the device of the images; B numbers are drawn from it.

    Returns:
        New images [B, C, H, W] of the same type.

    Example:
        >>> import torch
        >>> from nuat.data import random_flip
        >>> images = torch.arange(2.0).expand(8, 1, 1, 2)
        >>> flipped = random_flip(images, torch.Generator().manual_seed(0))
        >>> sorted({tuple(row) for row in flipped.flatten(1).tolist()})
        [(0.0, 1.0), (1.0, 0.0)]
    """
    flipped = uniform((len(images),), source, images.new_empty((), dtype=torch.float32)) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def cutmix(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a box of the image before it into each image (the last one's into the first), and mix the labels by area.

    The box has the sides sqrt(1 - share) times the image's, share ~ Beta(alpha, alpha). Its centre is uniform in the
    image, and what lies outside is cut off. Source: Yun et al. 2019, Algorithm A1, with a box for each image; in
    adversarial training, Rebuffi et al. 2021.

    Args:
        images: float [B, C, H, W], the whole batch.
        labels: soft labels, float [B, N].
        alpha: parameter of the beta distribution, > 0. 1: uniform.
        generator: source of the draws, on the device of the images.

    Returns:
        New images [B, C, H, W], in the memory format of ``images``, and their labels [B, N].

    Example:
        >>> import torch
        >>> from nuat.data import cutmix
        >>> images, labels = torch.eye(2)[:, :, None, None].expand(2, 2, 8, 8), torch.eye(2)
        >>> mixed, shares = cutmix(images, labels, 1.0, torch.Generator().manual_seed(0))
        >>> torch.equal(mixed.mean(dim=(2, 3)), shares)
        True
    """
    height, width = images.shape[2:]
    # two numbers of a gamma distribution make one of the beta distribution; torch's own has no generator
    drawn = torch._standard_gamma(images.new_full((2, len(images)), alpha), generator=generator)
    side = (drawn[0] / drawn.sum(dim=0)).sqrt()  # of the box, relative to the image's
    down, right = uniform((2, len(images)), generator, images, images=1)

    def inside(centre: Tensor, length: int) -> Tensor:
        """Return, bool [B, length], which rows or columns are the box's."""
        pixels = torch.arange(length, device=images.device)
        first, last = ((centre + half * side) * length for half in (-0.5, 0.5))
        return (pixels >= first.round()[:, None]) & (pixels < last.round()[:, None])

    box = inside(down, height)[:, :, None] & inside(right, width)[:, None, :]
    share = box.to(labels.dtype).mean(dim=(1, 2))[:, None]  # of the pasted image
    mixed = torch.where(box[:, None], images.roll(1, 0), images)
    return mixed, (1.0 - share) * labels + share * labels.roll(1, 0)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize the shorter side to ``size`` [pixels], the other in proportion (bilinear, antialiased).

    Args:
        images: uint8 [B, C, H, W].
        size: >= 1.

    Returns:
        Images uint8 [B, C, h, w], rounded. Images that have that size already are returned unchanged.
    """
    height, width = images.shape[2:]
    if min(height, width) == size:
        return images
    shape = resized_shape(height, width, size)
    resized = F.interpolate(images.float(), shape, mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8)


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width [pixels] of an image after ``resize`` to ``size``."""
    short = min(height, width)
    return max(1, round(height * size / short)), max(1, round(width * size / short))
