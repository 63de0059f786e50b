"""Choices of images class by class; one seed gives the same choice on every platform."""

import torch
from torch import Tensor

from nuat.errors import InputError


def class_balanced(labels: Tensor, n: int, seed: int) -> Tensor:
    """Choose ``n`` images, as equally many of each class as possible.

    One random image of each class is taken in turn, the classes in random order, until there are n. A remainder thus
    goes to a few classes, and a class with too few images gives all it has. For one seed, a smaller choice is part of a
    larger one.

    Args:
        labels: int64 [N], classes from 0, on any device.
        n: number of images, 0..N.
        seed: seed of the choice.

    Returns:
        Sorted positions, int64 [n], on the CPU.

    Raises:
        InputError: n is negative or larger than N.

    Example:
        >>> import torch
        >>> from nuat.data import class_balanced
        >>> class_balanced(torch.tensor([0, 0, 0, 0, 1, 1]), 4, seed=0).tolist()
        [2, 3, 4, 5]
    """
    if not 0 <= n <= len(labels):
        raise InputError(f"cannot choose {n} of {len(labels)} images: ask for 0..{len(labels)}.")
    if n == 0:
        return torch.empty(0, dtype=torch.int64)
    # always the CPU's generator: a GPU's draws other numbers from the same seed
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


def stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Choose a fraction of the images of each class, at random.

    A class of two or more images gives at least one and keeps at least one; a class of one keeps it.

    Args:
        labels: int64 [N], classes from 0, on any device.
        fraction: share of each class, in (0, 1).
        seed: seed of the choice.

    Returns:
        Sorted positions, int64 [n], on the CPU.

    Example:
        >>> import torch
        >>> from nuat.data.splits import stratified
        >>> stratified(torch.tensor([0] * 20 + [1] * 3 + [2]), 0.1, seed=0).tolist()
        [3, 5, 20]
    """
    generator = torch.Generator().manual_seed(seed)  # the CPU's, as above
    shuffled = torch.randperm(len(labels), generator=generator)
    label = labels.cpu()[shuffled]
    count = torch.bincount(label)
    wanted = torch.minimum((fraction * count + 0.5).floor().clamp(min=1).long(), count - 1)
    by_class = torch.argsort(label, stable=True)
    first_of_class = count.cumsum(0) - count
    place = torch.empty_like(label)  # of an image among those of its class
    place[by_class] = torch.arange(len(label)) - first_of_class[label[by_class]]
    return shuffled[place < wanted[label]].sort().values


def split(labels: Tensor, validation: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split a training part into training and validation images.

    Args:
        labels: int64 [N], classes from 0, on any device.
        validation: images to hold out: a number of them, 0..N, class-balanced; or, as a float in (0, 1), a fraction of
            each class, see ``stratified``.
        seed: seed of the choice.

    Returns:
        ``(train_indices, validation_indices)``: sorted, disjoint, together 0..N-1, int64 on the CPU.

    Raises:
        InputError: validation is negative or larger than N.

    Example:
        >>> import torch
        >>> from nuat.data import split
        >>> train, validation = split(torch.tensor([0, 0, 0, 0, 1, 1]), 2, seed=0)
        >>> train.tolist(), validation.tolist()
        ([0, 1, 3, 4], [2, 5])
    """
    if isinstance(validation, float):
        validation_indices = stratified(labels, validation, seed)
    else:
        validation_indices = class_balanced(labels, validation, seed)
    is_train = torch.ones(len(labels), dtype=torch.bool)
    is_train[validation_indices] = False
    return is_train.nonzero().squeeze(1), validation_indices
