"""Order of the classes: the logit of the model for each class of the images, by name or by what the model predicts."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nuat.errors import InputError

_ENOUGH = 2
"""Images of a class, at least, for its predictions to say which logit is its own."""
_BETTER = 0.1
"""Accuracy that another order of the classes must win."""
_MANY = 40
"""Images, at least, for an accuracy to be called chance."""
_LEAST = 0.5
"""Accuracy, at least, in another order of the classes."""


def order_by_name(model: Sequence[str], images: Sequence[str], *, owner: str, source: str) -> tuple[int, ...] | None:
    """Return the logit of each class of the images, where both sides name their classes.

    Args:
        model: names of the classes of the model, in the order of its logits.
        images: names of the classes of the images, in the order of the labels.
        owner: name of the model, for messages.
        source: name of the images, for messages.

    Returns:
        The order, or None where nothing is to be done: the names are equal, or one side has numbers for names. Numbers
        that the images do not count from 0, such as folders called 0, 1 and 3, are names if the model has them, too.

    Raises:
        InputError: the images have a class that the model does not have.
    """
    if tuple(model) == tuple(images):
        return None
    moved = any(name in model and list(model).index(name) != label for label, name in enumerate(images))
    if (_unnamed(images) or (_unnamed(model) and not moved)) and sorted(model) != sorted(images):
        return None
    unknown = [name for name in images if name not in model]
    if unknown:
        raise InputError(
            f"{source} has classes that {owner} does not have: {_listed(unknown)}; it has {_listed(model)}. Rename "
            "them, or give --class-map, the logit of each class of the images."
        )
    return tuple(list(model).index(name) for name in images)


def _unnamed(names: Sequence[str]) -> bool:
    """Return whether the names are only numbers: 0, 1, 2, ..."""
    return list(names) == [str(i) for i in range(len(names))]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:6])) + (", ..." if len(names) > 6 else "")


def order_warning(logits: Tensor, y: Tensor, classes: int) -> list[str]:
    """Return a warning if the model seems to have its classes in another order than the images, or nothing.

    Args:
        logits: [n, N] of clean images.
        y: labels, int64 [n].
        classes: classes of the images, at most N.
    """
    predicted = logits.argmax(dim=1)
    order = _predicted_order(predicted, y, classes, logits.shape[1])
    if order is None:
        return []
    accuracy = float((predicted == y).double().mean())
    return [
        f"labels and predictions match nearly one to one, but in another order: {accuracy:.0%} of the images are "
        "classified correctly. The classes of the images seem to be ordered differently from the model's; if so, give "
        f"--class-map {','.join(map(str, order))}."
    ]


def accuracy_warning(logits: Tensor, y: Tensor, classes: int) -> list[str]:
    """Return a warning if the model predicts classes that the images do not have, or guesses; arguments as above."""
    predicted = logits.argmax(dim=1)
    accuracy = float((predicted == y).double().mean())
    outside = float((predicted >= classes).double().mean())
    if outside > 0:
        return [
            f"the model returns {logits.shape[1]} logits, but the images have {classes} classes: {outside:.0%} of the "
            "predictions are no class of the images, and count as wrong. Give --class-map, the logit of each class of "
            "the images, in their order."
        ]
    if len(y) >= _MANY and classes > 1 and _at_chance(accuracy, len(y), classes):
        return [
            f"the model classifies {accuracy:.0%} of the images correctly, no better than chance: its classes may be "
            "in another order (--class-map), its images normalised in another way, or its weights untrained."
        ]
    return []


def _at_chance(accuracy: float, n: int, classes: int) -> bool:
    """Return whether guessing among the classes would be as accurate, within two standard deviations."""
    chance = 1 / classes
    return accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / n)


def _predicted_order(predicted: Tensor, y: Tensor, classes: int, logits: int) -> tuple[int, ...] | None:
    """Return the logit that a model predicts for each class, if that is another order; None: it is not.

    Half of the images of each class say which logit is predicted for it, the other half whether that is so.
    """
    mapped: dict[int, int] = {}
    right = right_as_is = judged = 0
    for label in torch.bincount(y).nonzero().squeeze(1).tolist():
        own = predicted[y == label]
        if len(own) < _ENOUGH:
            continue
        mapped[label] = int(own[::2].mode().values)
        judged += len(own[1::2])
        right += int((own[1::2] == mapped[label]).sum())
        right_as_is += int((own[1::2] == label).sum())
    if judged == 0 or all(label == found for label, found in mapped.items()):
        return None
    one_to_one = len(set(mapped.values())) >= 0.9 * len(mapped)
    if not one_to_one or right < _LEAST * judged or right - right_as_is < _BETTER * judged:
        return None
    return _completed(mapped, classes, logits)


def _completed(mapped: dict[int, int], classes: int, logits: int) -> tuple[int, ...]:
    """Return a logit for every class: the predicted one, or one that is left over."""
    order: list[int | None] = [None] * classes
    for label, found in mapped.items():
        if found not in order:
            order[label] = found
    left = iter(i for i in range(logits) if i not in order)
    return tuple(next(left) if found is None else found for found in order)
