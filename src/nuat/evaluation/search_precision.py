"""Arithmetic in which attacks search. Verdicts always come from a pass of the model itself in fp32.

A search in fewer bits costs less and follows a slightly other gradient. It cannot make a model seem weaker, as every
success is confirmed in fp32; a success that fp32 denies is searched for again in fp32 (``job_runner``). So is one that
a search in bf16 came near: where it left less than a fifth of an image's margin, rounding may be all that kept it back.

| name | convolutions and matrix products of the attacked model |
|---|---|
| fp32 | true fp32 |
| tf32 | CUDA GPUs alone: inputs rounded to 10 bits of mantissa, sums in fp32; torch's default for convolutions |
| bf16 | under bf16 autocast; losses, gradients in the image and steps stay fp32 |
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nuat.errors import InputError, did_you_mean

SearchPrecision = Literal["auto", "fp32", "tf32", "bf16"]
"""Names on the command line; auto: tf32 on a CUDA GPU, fp32 elsewhere."""
_NAMES = ("auto", "fp32", "tf32", "bf16")


def settled(asked: str, device: torch.device) -> str:
    """Return fp32, tf32 or bf16 for what is asked for on ``device``.

    Raises:
        InputError: an unknown name, or tf32 without a CUDA GPU.
    """
    if asked not in _NAMES:
        raise InputError(
            f"search precision {asked!r}: expected one of {', '.join(_NAMES)}.{did_you_mean(asked, _NAMES)}"
        )
    if asked == "auto":
        return "tf32" if device.type == "cuda" else "fp32"
    if asked == "tf32" and device.type != "cuda":
        raise InputError("search precision tf32 exists on CUDA GPUs alone; give fp32 or bf16.")
    return asked


class Bf16Forward(nn.Module):
    """A model whose forward pass, and so its backward pass, computes under bf16 autocast.

    Args:
        model: images [B, C, H, W] to logits [B, N].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of ``x`` [B, C, H, W], in fp32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits: Tensor = self.model(x)
        return logits.float()
