"""Draw and augment the images of a batch from a recording: one graph in place of some twenty kernels."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.training.capture import Capture
from nuat.training.graph import EAGER_UPDATES

Augment = Callable[[Tensor], Tensor]
"""Function from positions int64 [B] to augmented images x [B, C, H, W]."""


@dataclass(frozen=True)
class _Recording:
    rows: Tensor
    """Buffer of the positions."""
    repeat: Callable[[], Tensor]


class RecordedImages:
    """Repeat recordings of the augmentation of whole batches, one for each size of images.

    A recording must give the very images that the function gives from the same draws; otherwise all calls go to the
    function.
    """

    def __init__(
        self, generator: torch.Generator, batch_size: int, *, capture: Capture, tell: Callable[[str], None]
    ) -> None:
        """Take the generator that the images are augmented by, and what hears why nothing is repeated."""
        self._generator, self._batch_size = generator, batch_size
        self._capture, self._tell = capture, tell
        self._recordings: dict[int | None, _Recording] = {}
        self._calls: dict[int | None, int] = {}
        self._trusted = True

    def at_size(self, size: int | None) -> Callable[[Augment, Tensor], Tensor]:
        """Return what repeats the augmentation at a size of images [pixels], which must not change otherwise."""

        def repeat(augment: Augment, rows: Tensor) -> Tensor:
            if not self._trusted or len(rows) != self._batch_size:
                return augment(rows)
            recording = self._recordings.get(size)
            if recording is not None:
                recording.rows.copy_(rows)
                return recording.repeat().clone()  # the next repetition overwrites it
            self._calls[size] = self._calls.get(size, 0) + 1
            return augment(rows) if self._calls[size] <= EAGER_UPDATES else self._recorded(augment, rows, size)

        return repeat

    def _recorded(self, augment: Augment, rows: Tensor, size: int | None) -> Tensor:
        """Augment images, record the augmentation, and compare the two."""
        start = self._generator.get_state()
        images = augment(rows)
        end = self._generator.get_state()
        buffer = rows.clone()
        try:
            self._generator.set_state(start)
            recording = _Recording(buffer, self._capture(lambda: augment(buffer), [self._generator]))
            self._generator.set_state(start)
            alike = torch.equal(recording.repeat(), images) and torch.equal(self._generator.get_state(), end)
            reason = None if alike else "repeated images differ from eager ones"
            self._recordings[size] = recording
        except Exception as error:  # whatever fails in a recording, the images are there
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        self._generator.set_state(end)
        if reason is not None:
            self._trusted = False
            self._recordings.clear()
            self._tell(reason)
        return images
