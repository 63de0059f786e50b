"""Random crop and flip of a whole batch at once, on the device where the images are."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift each image by its own random offset of up to ``padding`` pixels; zeros come in from outside.

    The same as padding each side with zeros and cutting out a window of the original size at a place drawn uniformly.

    Args:
        images: [B, C, H, W] of any type.
        padding: zeros [pixels] on each side, >= 0; 0 returns the images and draws nothing.
        generator: on the device of the images; 2 B integers are drawn from it.

    Returns:
        New images [B, C, H, W] of the same type.
    """
    if padding == 0:
        return images
    batch, _, height, width = images.shape
    device = images.device
    top, left = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator, device=device)
    padded = F.pad(images, [padding] * 4)
    # a view of every window [B, C, 2 padding + 1, 2 padding + 1, H, W]; only the chosen ones are copied
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        images: [B, C, H, W] of any type.
        generator: on the device of the images; B numbers are drawn from it.

    Returns:
        New images [B, C, H, W] of the same type.
    """
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)
