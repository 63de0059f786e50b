"""Random numbers for the images of a batch, the same on one device and on many.

With one device they come from a generator. With several, each device holds some rows of the global batch, draws for
the whole global batch from an equal generator, and keeps its rows (``Rows``). The noise of an image then does not
depend on the number of devices, and the generators stay equal without an exchange. docs/scale.md states the cost.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Source of a device that holds rows ``rank``, ``rank + ranks``, ... of a global batch of ``total`` images."""

    generator: torch.Generator
    """Generator on the device of the images, equal on all devices."""
    rank: int
    ranks: int
    total: int

    @property
    def device(self) -> torch.device:
        """The device of the generator."""
        return self.generator.device


Source = torch.Generator | Rows | None
"""Source of draws. None: torch's global generator."""


def seed_from(*parts: object, bits: int = 32) -> int:
    """Return a seed made from numbers and words, such as (seed, epoch), that no other such parts share.

    It is a hash: (0, 1) and (1, 0) differ, and consecutive numbers give unrelated seeds.

    Args:
        parts: joined as text by colons.
        bits: of the seed; torch's CPU generator (Mersenne twister) takes 32.

    Example:
        >>> from nuat.core.random import seed_from
        >>> seed_from(0, 1) == seed_from(1, 0)
        False
    """
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: bits // 8], "big")


def uniform(shape: tuple[int, ...], source: Source, like: Tensor, *, images: int = 0) -> Tensor:
    """Return numbers uniform in [0, 1), of the dtype and on the device of ``like``.

    Args:
        shape: shape of this device's draw; its dimension ``images`` counts the device's images.
        source: source of the draw.
        like: a floating-point tensor.
        images: the dimension that counts images.
    """
    whole, generator = _whole(shape, source, images)
    drawn = torch.rand(whole, generator=generator, device=like.device, dtype=like.dtype)
    return _rows(drawn, source, images)


def normal(shape: tuple[int, ...], source: Source, like: Tensor) -> Tensor:
    """Return standard normal numbers of ``shape`` (images first), of the dtype and on the device of ``like``."""
    whole, generator = _whole(shape, source, 0)
    return _rows(torch.randn(whole, generator=generator, device=like.device, dtype=like.dtype), source, 0)


def integers(
    below: int,
    shape: tuple[int, ...],
    source: Source,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.int64,
    images: int = 0,
) -> Tensor:
    """Return integers uniform in 0 .. ``below`` - 1; the other arguments are those of ``uniform``."""
    whole, generator = _whole(shape, source, images)
    return _rows(torch.randint(0, below, whole, generator=generator, device=device, dtype=dtype), source, images)


def shared(source: Source) -> torch.Generator | None:
    """Return the generator behind a source, for a draw for the whole global batch on every device."""
    return source.generator if isinstance(source, Rows) else source


def _whole(shape: tuple[int, ...], source: Source, images: int) -> tuple[tuple[int, ...], torch.Generator | None]:
    """Return the shape and the generator of the global batch's draw."""
    if not isinstance(source, Rows):
        return shape, source
    if shape[images] != len(range(source.rank, source.total, source.ranks)):
        raise AssertionError(f"{shape[images]} images are not the rows {source} of a batch")
    return (*shape[:images], source.total, *shape[images + 1 :]), source.generator


def _rows(drawn: Tensor, source: Source, images: int) -> Tensor:
    if not isinstance(source, Rows):
        return drawn
    own = torch.arange(source.rank, source.total, source.ranks, device=drawn.device)
    return drawn.index_select(images, own)
