"""Class-balanced choices of images, the same on every platform for the same seed."""

import torch
from torch import Tensor

from nuat.errors import InputError


def class_balanced(labels: Tensor, n: int, seed: int) -> Tensor:
    """Choose ``n`` images with as equal a number of each class as there is.

    The choice deals out one random image of each class in turn, the classes in a random order, until it has n. A
    remainder thus goes to a few classes, a class with too few images gives all it has, and, for one seed, a smaller
    choice is part of a larger one.

    Args:
        labels: int64 [N], classes from 0, on any device.
        n: how many images, 0..N.
        seed: of the choice.

    Returns:
        Sorted positions, int64 [n], on the CPU.

    Raises:
        InputError: n is negative or larger than N.
    """
    if not 0 <= n <= len(labels):
        raise InputError(f"cannot choose {n} of {len(labels)} images: ask for 0..{len(labels)}.")
    if n == 0:
        return torch.empty(0, dtype=torch.int64)
    # always the CPU's generator: the GPU's draws other numbers from the same seed
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    label = labels.cpu()[shuffled]
    count = torch.bincount(label)
    turn = torch.randperm(len(count), generator=generator)

    by_class = torch.argsort(label, stable=True)
    first_of_class = count.cumsum(0) - count
    round_ = torch.empty_like(label)  # in which round of the deal an image is taken
    round_[by_class] = torch.arange(len(label)) - first_of_class[label[by_class]]
    chosen = torch.argsort(round_ * len(count) + turn[label])[:n]
    return shuffled[chosen].sort().values


def split(labels: Tensor, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split a training part into training and validation images.

    Args:
        labels: int64 [N], classes from 0, on any device.
        validation: how many images to hold out, class-balanced, 0..N.
        seed: of the choice.

    Returns:
        ``(train_indices, validation_indices)``: sorted, disjoint, together 0..N-1, int64 on the CPU.

    Raises:
        InputError: validation is negative or larger than N.
    """
    validation_indices = class_balanced(labels, validation, seed)
    is_train = torch.ones(len(labels), dtype=torch.bool)
    is_train[validation_indices] = False
    return is_train.nonzero().squeeze(1), validation_indices
