"""Order of an epoch: a pure function of the seed and the epoch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nuat.core.random import seed_from

WINDOW = 16
"""Shards whose samples are shuffled together."""


def epoch_order(n: int, order_seed: int, epoch: int) -> Tensor:
    """Return the order of an epoch: a permutation int64 [n] on the CPU that depends on the arguments alone."""
    return torch.randperm(n, generator=_generator(order_seed, epoch))


def shard_order(shards: NDArray[np.int32], order_seed: int, epoch: int) -> Tensor:
    """Return an order in which samples of one shard are read at about the same time.

    The shards are permuted, and samples are shuffled within each window of ``WINDOW`` shards of that order. A batch
    thus comes from 16 shards, not from all of them, so samples should be shuffled before they are written to shards.

    Args:
        shards: int32 [n], number of each sample's shard.
        order_seed: seed of the order.
        epoch: number of the epoch, >= 0.

    Returns:
        A permutation int64 [n] on the CPU that depends on the arguments alone.
    """
    if len(shards) == 0:
        return torch.empty(0, dtype=torch.int64)
    generator = _generator(order_seed, epoch)
    place = torch.randperm(int(shards.max()) + 1, generator=generator).numpy()
    drawn = torch.randperm(len(shards), generator=generator).numpy()
    return torch.from_numpy(np.lexsort((drawn, place[shards] // WINDOW)))


def _generator(order_seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_from(order_seed, epoch))
