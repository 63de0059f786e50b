"""A model that every attack by gradients can run on, though it may not climb it."""

from typing import Any

import torch
from torch import Tensor, nn


class Climbable(nn.Module):
    """A model with a finite gradient in the image: 0 where its own is missing, infinite or NaN.

    Attacks stand still there, as on any flat model, instead of failing. The logits are the model's own.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of ``x`` [B, C, H, W]."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            flat: Tensor = self.model(x)
            return flat
        z = x.clone()
        z.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))  # type: ignore[no-untyped-call]
        tied: Tensor = _Tied.apply(self.model(z), z)
        return tied


class _Tied(torch.autograd.Function):
    """The logits, with a graph that leads to the image even where they have none."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (x,) = ctx.saved_tensors
        return gradient, torch.zeros_like(x)
