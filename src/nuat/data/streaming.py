"""Training images that worker processes decode and augment during training.

The content of a batch is a pure function of (seed, epoch, positions). A run that resumes in the middle of an epoch asks
only for the remaining batches, and no pixel depends on the number of workers or devices.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from nuat.core import digest
from nuat.data.images import ImageSet, UnsplitData
from nuat.data.memory import decode_evaluated
from nuat.data.samples import Parts, Samples
from nuat.data.transforms import TrainingView
from nuat.data.verification import KEPT_NAMES, OnBad, Verified, check_classes, conversion_notes, cores, settle, verify
from nuat.data.workers import (
    REMEDY,
    SHORT,
    Decoder,
    Request,
    Requests,
    WorkerDiedError,
    begin_worker,
    death,
    own_child_signals,
)
from nuat.errors import InputError, TransientError

_MOST_WORKERS = 16
_DYING_SECONDS = 5.0
"""Seconds that a worker may take to end."""


class StreamedSet:
    """Labelled images that stay encoded on the disk until they are asked for.

    Args:
        samples: samples, all of which can be decoded.
        sums: uint32 [N], checksum of each sample.
        channels: C of the images, 1 or 3.
        size: side [pixels] of the images.
        eval_resize: see ``DataConfig``.
        workers: processes that decode training images. None: ``default_workers``; 0: this process decodes.
        device: device of the batches.

    Example:
        A folder with ``DataConfig(loading="stream")`` is read as such sets:

        >>> from pathlib import Path
        >>> import tempfile
        >>> from PIL import Image
        >>> from nuat.config import DataConfig
        >>> from nuat.data import load
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        ...     (root / name).mkdir(parents=True)
        ...     Image.new("RGB", (20, 30)).save(root / name / "a.png")
        >>> settings = DataConfig(path=root, cache=root / "cache", loading="stream", image_size=16, validation=0)
        >>> images = load(settings).train
        >>> type(images).__name__, len(images), images.image_size
        ('StreamedSet', 2, (16, 16))
    """

    def __init__(
        self,
        samples: Samples,
        sums: NDArray[np.uint32],
        *,
        channels: int,
        size: int,
        eval_resize: int | None = None,
        workers: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self._sums = samples, sums
        self.channels, self._size, self._eval_resize = channels, size, eval_resize
        self.workers = default_workers() if workers is None else workers
        self.device = torch.device(device)
        self.labels = torch.from_numpy(samples.labels)
        self._requests = Requests()
        self._loader: DataLoader[Tensor | InputError] | None = None
        # an attribute: an error's traceback would keep a generator's local variables alive, and with them the workers
        self._making: Iterator[Tensor | InputError] = iter(())
        self._processes: set[multiprocessing.process.BaseProcess] = set()
        self._turn = 0

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width [pixels] of every image."""
        return self._size, self._size

    def to(self, device: torch.device | str) -> "StreamedSet":
        """Return the set with its batches and selected images on ``device``; the labels stay on the CPU."""
        return self._like(self.samples, self._sums, torch.device(device))

    def subset(self, indices: Tensor) -> "StreamedSet":
        """Return the images at ``indices`` (int64 [n]), in that order, as a set."""
        chosen = indices.cpu().numpy()
        return self._like(self.samples.take(chosen), self._sums[chosen], self.device)

    def select(self, indices: Tensor) -> ImageSet:
        """Decode the images at ``indices`` (int64 [n]) in parallel, as evaluations see them.

        Raises:
            InputError: an image can no longer be read or decoded.
        """
        samples = self.samples.take(indices.cpu().numpy())
        return decode_evaluated(samples, self.channels, self._size, self._eval_resize).to(self.device)

    def fingerprint(self) -> str:
        """Return a digest of the encoded images and labels, in order."""
        sizes = self.samples.sizes[self.samples.rows]
        return digest.of_tensors(*map(torch.from_numpy, (self._sums.view(np.int32), sizes, self.samples.labels)))

    def batches(
        self,
        batch_size: int,
        view: TrainingView,
        *,
        order_seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from number ``start`` on, as (images, positions).

        Images are uint8 [b, C, size, size] on the set's device, rows rank::ranks of the batch. Positions are those of
        the whole batch, int64 [B] on the CPU. Skipped batches and other ranks' rows are not decoded. Asking for another
        epoch ends this one.

        Raises:
            TransientError: an image can no longer be read, a worker died, or memory for a batch is missing.
            InputError: an image can no longer be decoded.
        """
        order = self.samples.order(order_seed, epoch)
        parts = [order[first : first + batch_size] for first in range(start * batch_size, len(self), batch_size)]
        requests = [Request(part[rank::ranks].numpy(), order_seed, epoch, view) for part in parts]
        for images, positions in zip(self._made(requests), parts, strict=True):
            yield images.to(self.device, non_blocking=True), positions

    def close(self) -> None:
        """End the worker processes. The next batch starts new ones."""
        self._loader, self._making, self._processes = None, iter(()), set()

    def _like(self, samples: Samples, sums: NDArray[np.uint32], device: torch.device) -> "StreamedSet":
        return StreamedSet(
            samples,
            sums,
            channels=self.channels,
            size=self._size,
            eval_resize=self._eval_resize,
            workers=self.workers,
            device=device,
        )

    def _made(self, requests: list[Request]) -> Iterator[Tensor]:
        """Yield the requested batches, in order."""
        self._turn += 1
        turn = self._turn
        self._begin(requests)
        here: Decoder | None = None
        for request in requests:
            if self._turn != turn:
                raise RuntimeError("the batches of another epoch of this set were begun in the meantime")
            images = self._next() if here is None else here[request]
            if isinstance(images, WorkerDiedError) and self._asked_to_end():
                # the whole process group was asked to end, but the current update may need several more batches
                # before the run can save; if only workers were ended, this process finishes the epoch alone
                self.close()
                here = Decoder(self.samples, self.channels)
                images = here[request]
            if isinstance(images, InputError):
                self.close()
                raise images
            yield images

    def _next(self) -> Tensor | InputError:
        """Return the next batch, or the error."""
        try:
            return next(self._making)
        except (RuntimeError, OSError, EOFError) as error:
            return WorkerDiedError(f"{death(error)}; {REMEDY}")

    def _asked_to_end(self) -> bool:
        """Return whether a worker was ended by SIGTERM."""
        # a worker whose pipe broke takes a moment to die
        sentinels = [process.sentinel for process in self._processes]
        ready = multiprocessing.connection.wait(sentinels, timeout=_DYING_SECONDS)
        dying = [process for process in self._processes if process.sentinel in ready]
        for process in dying:
            process.join(_DYING_SECONDS)  # its sentinel closes shortly before its exit code is known
        return any(process.exitcode == -signal.SIGTERM for process in dying)

    def _begin(self, requests: list[Request]) -> None:
        """Start on the requests, with the workers of the previous epoch if all are alive."""
        self._requests.now = iter(requests)
        if self._loader is not None and self._goes_on(self._loader):
            return
        self._loader = DataLoader(
            Decoder(self.samples, self.channels),
            sampler=self._requests,
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=begin_worker,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # the loader draws a number, not from the run's
        )
        before = set(multiprocessing.active_children())
        try:
            with own_child_signals():
                self._making = iter(self._loader)
        except OSError as error:
            self.close()
            raise TransientError(f"processes that decode images cannot be started ({error}); {REMEDY}") from error
        self._processes = set(multiprocessing.active_children()) - before

    def _goes_on(self, loader: DataLoader[Tensor | InputError]) -> bool:
        """Start on the requests with the workers of the previous epoch, or end them all if one has died.

        Workers die most often at the end of an epoch, when validation and the checkpoint need memory, too. Nothing is
        lost then, so new workers can take over. Return whether the old ones go on.
        """
        try:
            self._making = iter(loader)
        except (RuntimeError, OSError, EOFError) as error:
            warnings.warn(f"{death(error)} and is replaced; {SHORT}", RuntimeWarning, stacklevel=2)
            self.close()
            return False
        return True


def default_workers() -> int:
    """Return the default number of decoding processes: the cores less one, at most 16.

    Processes of one run on this machine (torchrun's LOCAL_WORLD_SIZE) share the cores.
    """
    sharing = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(1, min(_MOST_WORKERS, cores() // sharing - 1))


def read(
    parts: Parts, image_size: int, cache: Path, *, eval_resize: int | None, workers: int | None, on_bad: OnBad
) -> UnsplitData:
    """Check every image once and return sets that decode images when they are asked for.

    Args:
        parts: samples of the folder.
        image_size: side [pixels] of the images.
        cache: folder that keeps the result of the check.
        eval_resize: see ``DataConfig``.
        workers: see ``DataConfig``.
        on_bad: see ``DataConfig``.

    Raises:
        InputError: files are damaged and ``on_bad`` refuses them, or no training image of a class can be decoded.
    """
    found = verify(parts, cache)
    bad, start = [], 0
    for samples, verified in zip(parts.all, found, strict=True):
        bad += [dataclasses.replace(one, position=one.position + start) for one in verified.bad]
        start += len(samples)
    names = parts.names(one.position for one in bad)
    settle(bad, names, start, on_bad)
    check_classes(parts, found[0].good)
    largest, transparent, several = (
        np.concatenate([getattr(v, name) for v in found]) for name in ("largest", "transparent", "several")
    )
    notes = conversion_notes(parts, largest, transparent, several)
    channels = 1 if all(bool(v.grey[v.good].all()) for v in found) else 3

    def streamed(samples: Samples, verified: Verified) -> StreamedSet:
        return StreamedSet(
            samples.take(verified.good),
            verified.sums[verified.good],
            channels=channels,
            size=image_size,
            eval_resize=eval_resize,
            workers=workers,
        )

    sets = [streamed(samples, verified) for samples, verified in zip(parts.all, found, strict=True)]
    return UnsplitData(
        train=sets[0],
        test=sets[-1],
        classes=parts.classes,
        description=parts.description,
        validation=sets[1] if len(sets) == 3 else None,
        skipped=len(bad),
        skipped_names=names[:KEPT_NAMES],
        notes=(*parts.notes, *notes),
    )


def _as_it_is(made: Any) -> Any:
    return made
