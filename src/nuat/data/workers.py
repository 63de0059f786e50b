"""What the processes that decode training images do, and how their ends are told."""

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
"""The likely reason where a worker dies or cannot make a batch."""
REMEDY = (
    f"{SHORT}: nuat train RECIPE with the run's settings but fewer --data.workers, and with --out RUN "
    "--auto-resume true, goes on from what was saved; a smaller --batch-size needs a new run."
)
"""The same, and what to do."""


@dataclass(frozen=True)
class Request:
    """A batch that a worker is to make."""

    positions: NDArray[np.int64]
    """[b], in the set."""
    seed: int
    epoch: int
    view: TrainingView


class Decoder(Dataset[Tensor | InputError]):
    """What the workers hold: a request in, uint8 [b, C, size, size] out, or what is wrong.

    An exception that is raised would come out of a worker with a traceback around its message.
    """

    def __init__(self, samples: Samples, channels: int) -> None:
        self.samples, self.channels = samples, channels

    def __getitem__(self, request: Request) -> Tensor | InputError:
        n, size = len(request.positions), request.view.size
        try:
            images = torch.empty((n, self.channels, size, size), dtype=torch.uint8)
            if get_worker_info() is not None:
                # here rather than when it is sent, where a failure would leave the training process waiting
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
    """A worker process ended before its time."""


class Requests(Sampler[Request]):
    """What the workers are asked for next."""

    def __init__(self) -> None:
        self.now: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.now


def death(error: Exception) -> str:
    """Return what an error says about a worker that died; raise it again where it tells of something else."""
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
        raise error
    # an OSError or EOFError: it was killed while it handed its batch over
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"a process that decodes images has died ({reason})"


def begin_worker(_: int) -> None:
    """Let Ctrl-C pass by a worker that begins, and let it end with the training process."""
    # torch's own watch takes whom it finds as the parent, and that is another one where the training was killed before
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches every process of a terminal; the training process answers it, after the step it is in
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
    """Keep torch from raising about a dead worker wherever the training process happens to be, and hold Ctrl-C back.

    A dead worker is noticed when the next batch is waited for, where it can be told in a sentence. Ctrl-C would end
    workers that have not come to ``begin_worker`` yet; they inherit that it is held back until then.
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
