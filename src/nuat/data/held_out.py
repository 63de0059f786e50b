"""Choose the test images of a data set that has no test part.

The name of an image alone decides, by a hash, whether it is a test image. So the choice is the same on every machine
and in every run, and images that are added or removed later move no other image from one part to the other. A random
choice of a fixed number would do that, and a model would be tested on images that it was trained on.

The price is that the share of a class is a fifth only on average. Where the names of a class are numbered, consecutive
numbers are spread evenly, so that its share is a fifth but for an image or two.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nuat.data.samples import Parts, Samples, few
from nuat.errors import InputError

SHARE = 0.2
"""Probability that an image is a test image."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_GOLDEN = round(2**64 * (5**0.5 - 1) / 2) | 1
"""The golden ratio's fraction in 64 bits: its multiples are spread more evenly than those of any other number."""


def are_held_out(names: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Return which images are test images, bool [N]; each name decides for itself.

    Args:
        names: name of each image. Composed and decomposed letters (as macOS writes them) are the same.
        seed: ``data.split_seed``.
    """
    return np.array([_draw(seed, unicodedata.normalize("NFC", name)) < SHARE for name in names], dtype=np.bool_)


def _draw(seed: int, name: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the name alone."""
    numbers = list(_NUMBER.finditer(name))
    before, number, after = name, 0, ""
    if numbers:
        before, number, after = name[: numbers[-1].start()], int(numbers[-1][0]), name[numbers[-1].end() :]
    digest = hashlib.sha256(f"{seed}:{before}#{after}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") + number * _GOLDEN) % 2**64 / 2**64


def hold_out(
    samples: Samples,
    names: Sequence[str],
    *,
    classes: tuple[str, ...],
    description: str,
    kind: str,
    seed: int,
    notes: tuple[str, ...] = (),
    by: str = "names",
) -> Parts:
    """Split samples into a training and a test part, and say so in a note.

    Args:
        samples: all samples of the data set.
        names: what decides about each: its name within the data set, or a digest of its content.
        classes: name of each class.
        description: source of the images, for messages.
        kind: kind of source, see ``Parts``.
        seed: ``data.split_seed``.
        notes: lines on what was passed over.
        by: what ``names`` are, for the note.

    Raises:
        InputError: no image, or every image of a class, would be a test image.
    """
    test = are_held_out(names, seed)
    parts = Parts(
        train=samples.take(~test),
        test=samples.take(test),
        validation=None,
        classes=classes,
        description=description,
        kind=f"{kind} {int((~test).sum())}",  # another seed may only move the end of a part
    )
    if not test.any():
        raise InputError(
            f"{parts.description} has no test part, and its {len(samples)} images are too few to choose one; add "
            "images, or sort them into train/<class>/ and test/<class>/ yourself."
        )
    trained, tested = (np.bincount(part.labels, minlength=len(classes)) for part in (parts.train, parts.test))
    lost = np.flatnonzero((trained == 0) & (tested > 0))
    if len(lost):
        raise InputError(
            f"{parts.description} has no test part, and the choice by the {by} of the images leaves no training image "
            f"of class {parts.classes[lost[0]]!r}, of which there are {tested[lost[0]]}; add images of it, give "
            "another --data.split-seed, or choose the test images yourself."
        )
    chosen = (
        f"there is no test part: {len(parts.test)} of {len(samples)} images, chosen by the {by} of the images and "
        f"data.split_seed {seed}, are the test images and are not trained on"
    )
    empty = [parts.classes[label] for label in np.flatnonzero((trained > 0) & (tested == 0))]
    without = (f"no test image of {len(empty)} of {len(classes)} classes: {few(empty)}",) if empty else ()
    return replace(parts, notes=(*notes, chosen, *without))
