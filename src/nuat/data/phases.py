"""Phases of a run in which the training images have another size."""

import torch
from torch import nn

from nuat.config import DataConfig
from nuat.errors import InputError


def check_sizes(model: nn.Module, config: DataConfig, channels: int) -> None:
    """Refuse ``progressive_sizes`` that a model does not take, before hours pass.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits; it is asked once a size, in evaluation mode, which it leaves.
        config: the settings.
        channels: C.

    Raises:
        InputError: the model fails on one of the sizes.
    """
    modes = [(module, module.training) for module in model.modules()]
    example = next(model.parameters(), torch.empty(0))
    try:
        model.eval()
        for size in dict.fromkeys(config.progressive_sizes):
            with torch.no_grad():
                model(torch.zeros(1, channels, size, size, device=example.device, dtype=example.dtype))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # torch._assert, in transformers
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"data.progressive_sizes={','.join(map(str, config.progressive_sizes))}: the model does not take images of "
            f"{size} pixels ({reason}). Choose a network for any size, such as resnet18, or leave the sizes out."
        ) from error
    finally:
        for module, training in modes:
            module.training = training
