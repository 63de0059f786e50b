"""Worker processes that decode training images: their work, their start and their end."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from nuat.data.memory import place
from nuat.data.samples import Samples
from nuat.data.transforms import Draws, TrainingView, training_view
from nuat.errors import InputError, TransientError

SHORT = "the machine may be short of memory or of shared memory (/dev/shm)"
"""Likely reason why a worker died or could not make a batch."""
REMEDY = (
    f"{SHORT}: nuat train RECIPE with the run's settings but fewer --data.workers, and with --out RUN "
    "--auto-resume true, goes on from what was saved; a smaller --batch-size needs a new run."
)
"""The same, with what to do about it."""


@dataclass(frozen=True)
class Request:
    """Batch that a worker should make."""

    positions: NDArray[np.int64]
    """[b], positions in the set."""
    seed: int
    epoch: int
    view: TrainingView


class Decoder(Dataset[Tensor | InputError]):
    """Data set of the workers: a request in; uint8 [b, C, size, size], or an error, out.

    Errors are returned: a raised one would reach the training process with a traceback around its message.
    """

    def __init__(self, samples: Samples, channels: int) -> None:
        self.samples, self.channels = samples, channels

    def __getitem__(self, request: Request) -> Tensor | InputError:
        n, size = len(request.positions), request.view.size
        try:
            images = torch.empty((n, self.channels, size, size), dtype=torch.uint8)
            if get_worker_info() is not None:
                # shared now: a failure while the batch is sent would leave the training process waiting
                images.share_memory_()  # type: ignore[no-untyped-call]
        except (RuntimeError, MemoryError) as error:
            return TransientError(f"there is no room for a batch of {n} images ({error}); {REMEDY}")
        try:
            for into, position in zip(images.numpy(), request.positions.tolist(), strict=True):
                name = self.samples.name(position)
                draws = Draws(request.seed, request.epoch, position)
                place(training_view(self.samples.read(position), name, request.view, draws), into, name)
        except InputError as error:
            return error
        return images


class WorkerDiedError(TransientError):
    """A worker process died."""


class Requests(Sampler[Request]):
    """Requests that the workers get next."""

    def __init__(self) -> None:
        self.now: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.now


def death(error: Exception) -> str:
    """Return the message for a worker's death; raise the error again if it has another cause."""
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
        raise error
    # an OSError or EOFError: the worker was killed while it handed its batch over
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"a process that decodes images has died ({reason})"


def begin_worker(_: int) -> None:
    """Make a new worker ignore Ctrl-C and end with the training process."""
    # torch's own watch notes the parent too late: if the training was killed before, it watches another process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches every process of a terminal; the training process handles it, after its current step
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def own_child_signals() -> Iterator[None]:
    """Keep torch's handler for dead workers from being installed, and block Ctrl-C while workers start.

    That handler raises wherever the training process happens to be; waiting for the next batch finds a dead worker,
    too, and can report it in one sentence. Ctrl-C would end workers that have not reached ``begin_worker``; they
    inherit the block until then.
    """
    there = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if there else None
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if held is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
