"""The first convolution of a network for grey images, whose gradient in the image attacks take all the time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GreyConv2d(nn.Conv2d):
    """A convolution whose gradient in a grey image is cheap on the CPU; else ``nn.Conv2d`` itself, names included.

    With a single input channel the CPU's own kernel takes up to ten times as long for the gradient in the images as for
    the convolution. A matrix product and a sum of overlapping patches gives the same to rounding.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Convolve images [B, in_channels, H, W]."""
        if not (input.requires_grad and torch.is_grad_enabled() and self._cheap(input)):
            return super().forward(input)
        # the weights' gradient stays the convolution's own: an attack, which asks for the images' alone, pays for none
        result: Tensor = _ImageGradient.apply(
            super().forward(input.detach()), input, self.weight, self.stride, self.padding
        )
        return result

    def _cheap(self, images: Tensor) -> bool:
        plain = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        return plain and images.device.type == "cpu" and images.shape[1] == 1 and not isinstance(self.padding, str)


class _ImageGradient(torch.autograd.Function):
    """The identity of a result [B, N, H', W'], through which the images [B, 1, H, W] get their gradient."""

    @staticmethod
    def forward(
        ctx: Any, result: Tensor, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype, ctx.stride, ctx.padding = images.shape, images.dtype, stride, padding
        ctx.mark_dirty(result)  # returned as it is, not as a view, which a ReLU in place could not follow
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            taps = weight.to(gradient.dtype).flatten(1).mT  # [h w, N]
            patches = (taps @ gradient.flatten(2)).to(ctx.dtype)  # [B, h w, H' W']
            images = F.fold(patches, ctx.shape[2:], weight.shape[2:], padding=ctx.padding, stride=ctx.stride)
        return gradient, images, None, None, None
