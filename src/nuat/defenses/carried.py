"""A perturbation that a defense carries from batch to batch (Free-AT, FGSM-PGI)."""

import torch
from torch import Tensor

from nuat.defenses.base import State


def begins(state: State, name: str, x: Tensor) -> bool:
    """Return whether ``state`` carries no perturbation of images of the size of ``x`` [B, C, H, W] yet."""
    return state[name] is None or state[name].shape[1:] != x.shape[1:]


def carry(state: State, name: str, x: Tensor) -> Tensor:
    """Return the perturbation that ``state`` carries from batch to batch, cut to the batch: a view [B, C, H, W].

    It starts at 0, and once more where images become larger (progressive sizes); a short last batch uses and changes
    its first rows alone.
    """
    carried = None if begins(state, name, x) else state[name]
    if carried is None or len(carried) < len(x):
        grown = torch.zeros_like(x, memory_format=torch.contiguous_format)
        if carried is not None:
            grown[: len(carried)] = carried
        state[name] = carried = grown
    view: Tensor = carried[: len(x)]
    return view
