"""Number of images that an evaluation attacks at once, where nobody gives it."""

import torch
from torch import Tensor, nn

from nuat.hardware import memory_bytes

FEW = 16
"""Images that tell the memory of a pass."""
_SIZES = (FEW, 32, 64, 125, 250, 500, 1000, 2000)
_USUAL = 250
"""On a processor, which is as fast with small batches."""
_SHARE = 0.4
"""Share of a GPU's memory that one pass may take; attacks keep images, examples and gradients beside it."""


def fitting_batch_size(model: nn.Module, x: Tensor) -> int:
    """Return the number of images to attack at once: on a CUDA GPU the largest usual one whose pass fits its memory.

    A GPU is fast when each of its operations has much to do. The memory is that of the whole GPU, so that the number is
    the same from run to run on one machine.

    Args:
        model: images [B, C, H, W] to logits [B, N].
        x: ``FEW`` images [B, C, H, W] to measure on, or fewer, on the device of the model.
    """
    if x.device.type != "cuda":
        return _USUAL
    bytes_per_image = pass_bytes(model, x) / len(x)
    whole = memory_bytes(x.device) or 0
    return max((size for size in _SIZES if size * bytes_per_image <= _SHARE * whole), default=_SIZES[0])


def pass_bytes(model: nn.Module, x: Tensor) -> int:
    """Return the GPU memory [bytes] that a forward pass of ``x`` takes, with its backward pass if there is one."""
    before = torch.cuda.memory_allocated(x.device)
    torch.cuda.reset_peak_memory_stats(x.device)
    with torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        logits = model(z)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), z, allow_unused=True)
    return torch.cuda.max_memory_allocated(x.device) - before
