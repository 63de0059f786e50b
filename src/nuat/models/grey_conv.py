"""Convolution for grey images, with a fast input gradient on the CPU, which attacks take at every step."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GreyConv2d(nn.Conv2d):
    """Convolution with a fast input gradient for grey images on the CPU; otherwise it is ``nn.Conv2d``, names included.

    With a single input channel, torch's CPU kernel needs up to ten times as long for the input gradient as for the
    convolution. A matrix product and a sum of overlapping patches give the same up to rounding.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Convolve images [B, C, H, W]."""
        if not (input.requires_grad and torch.is_grad_enabled() and self._cheap(input)):
            return super().forward(input)
        # the weights keep the convolution's own gradient, which an attack never asks for and so never pays for
        result: Tensor = _ImageGradient.apply(
            super().forward(input.detach()), input, self.weight, self.stride, self.padding
        )
        return result

    def _cheap(self, images: Tensor) -> bool:
        plain = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        return plain and images.device.type == "cpu" and images.shape[1] == 1 and not isinstance(self.padding, str)


class _ImageGradient(torch.autograd.Function):
    """Identity of a result [B, N, H', W'] that passes the gradient on to the images [B, 1, H, W]."""

    @staticmethod
    def forward(
        ctx: Any, result: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype, ctx.stride, ctx.padding = images.shape, images.dtype, stride, padding
        ctx.mark_dirty(result)  # the same tensor, not a view: an in-place ReLU may follow
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        casts = torch.is_autocast_enabled("cpu")  # to enter a context costs more than to ask
        with torch.autocast("cpu", enabled=False) if casts else nullcontext():
            taps = weight.to(gradient.dtype).flatten(1).mT  # [h w, N]
            patches = (taps @ gradient.flatten(2)).to(ctx.dtype)  # [B, h w, H' W']
            images = F.fold(patches, ctx.shape[2:], weight.shape[2:], padding=ctx.padding, stride=ctx.stride)
        return gradient, images, None, None, None
