"""Normalisation per channel as a layer: attacks and eps stay in pixels of [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nuat.errors import InputError


class Normalise(nn.Module):
    """Normalisation (x - mean) / std per channel; images [B, C, H, W] keep their shape.

    Mean and std (one value per channel, std > 0) are buffers [1, C, 1, 1], so they move, cast and ship with the
    weights.

    Raises:
        InputError: a value is impossible, or images have another number of channels.

    Example:
        >>> import torch
        >>> from nuat.models import Normalise
        >>> Normalise(mean=[0.5], std=[0.25])(torch.ones(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        mean, std = [float(m) for m in mean], [float(s) for s in std]
        if not mean or len(mean) != len(std):
            raise InputError(
                f"mean has {len(mean)} values and std has {len(std)}: expected one of each per image channel."
            )
        if not all(math.isfinite(m) for m in mean):
            raise InputError(f"mean={tuple(mean)}: every value must be finite.")
        if not all(math.isfinite(s) and s > 0 for s in std):
            raise InputError(f"std={tuple(std)}: every value must be finite and > 0.")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Replace the values by as many others.

        Raises:
            InputError: a value is impossible.
        """
        other = Normalise(mean, std)
        self.mean.copy_(other.mean)
        self.std.copy_(other.std)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images [B, C, H, W]."""
        # broadcasting would silently turn grey images into as many channels as mean has
        if x.shape[1] != self.mean.shape[1]:
            raise InputError(
                f"images have {x.shape[1]} channels but mean and std have {self.mean.shape[1]} values; "
                "give one value per channel."
            )
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Return the number of channels, for printing."""
        return f"channels={self.mean.shape[1]}"
