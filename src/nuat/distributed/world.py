"""The processes of a run, one per device, and what they exchange.

Row ``i`` of a global batch is on the process of rank ``i % size``. A loss needs the logits of the whole batch, so they
are gathered (``World.joint``): every process takes the same loss of the same [M, N] logits, and differentiates it in
its own rows. The gradient of the global loss is the sum over the processes, so only the weights' gradients are
exchanged on the way back; torch's DistributedDataParallel sums them.
"""

import contextlib
import dataclasses
import datetime
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nuat.core.random import Rows, Source
from nuat.errors import InputError

T = TypeVar("T")

TIMEOUT_SECONDS = 600.0
"""Seconds that a process waits for the others before it gives up, unless $NUAT_TIMEOUT is set."""
PATIENT_SECONDS = 7 * 24 * 3600.0
"""Seconds that it waits when another may have long work to do first; a process that dies ends the wait at once."""


class PeerLostError(RuntimeError):
    """Another process of the run ended or does not answer; its own message says why."""


@dataclass(frozen=True)
class World:
    """The processes of a run; by default this process alone, and nothing is exchanged."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine, from 0, and of its GPU."""
    patient: dist.ProcessGroup | None = None
    """Process group for long waits. None: the default group."""

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def gpu(self) -> int | None:
        """Index of this process's GPU. None: alone, it takes any."""
        return self.local_rank if self.size > 1 else None

    def share(self, total: int) -> int:
        """Return how many of a global batch's ``total`` images are on this process."""
        return len(range(self.rank, total, self.size))

    def rows(self, tensor: Tensor) -> Tensor:
        """Return this process's rows of a global batch's tensor [M, ...]."""
        return tensor[self.rank :: self.size]

    def source(self, generator: torch.Generator, total: int) -> Source:
        """Return the source of draws for this process's images of a global batch of ``total``."""
        return generator if self.size == 1 else Rows(generator, self.rank, self.size, total)

    def gather(self, rows: Tensor, total: int) -> Tensor:
        """Return the global tensor [M, ...] that holds these rows of this process, differentiable in them.

        Args:
            rows: floating-point rows of this process, [share of M, ...].
            total: M, at least the number of processes.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self, total)
        return gathered

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums over the processes of tensors of one dtype and device."""
        if self.size == 1 or not tensors:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _peers():
            dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def any(self, flag: bool, *, patient: bool = False) -> bool:
        """Return whether ``flag`` is set on any process, without waiting for a GPU.

        ``patient`` allows for a process with long work to do before it comes here.
        """
        if self.size == 1:
            return flag
        found = torch.tensor([float(flag)])
        with _peers():
            dist.all_reduce(found, group=self.patient if patient else None)
        return bool(found > 0)

    def agree(self, value: T) -> T:
        """Return the first process's ``value``, a Python object, so that all decide alike."""
        if self.size == 1:
            return value
        box = [value]
        with _peers():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def objects(self, value: T, *, patient: bool = False) -> list[T]:
        """Return every process's ``value``, in the order of the ranks; ``patient`` as in ``any``."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _peers():
            dist.all_gather_object(found, value, group=self.patient if patient else None)
        return found

    def wait(self, *, patient: bool = False) -> None:
        """Wait until every process is here; ``patient`` as in ``any``."""
        self.any(False, patient=patient)

    @contextlib.contextmanager
    def first_of_machine(self) -> Iterator[None]:
        """Let the first process of each machine run the block before the others, which then find its files there.

        It may take long, and everybody waits. If the first fails, the others try as well: what is wrong for one is
        usually wrong for all, and each can say so.
        """
        if self.local_rank > 0:
            self.wait(patient=True)
        try:
            yield
        finally:
            if self.local_rank == 0:
                self.wait(patient=True)
            self.wait(patient=True)

    @contextlib.contextmanager
    def joint(self, model: nn.Module, total: int) -> Iterator[None]:
        """Let every forward pass of ``model`` return the logits [M, N] of the global batch of ``total`` images.

        The model is given this process's images. Losses and attacks then see the batch as one device would; a gradient
        in the images is the gradient in this process's images.
        """
        if self.size == 1:
            yield
            return

        def gather(module: nn.Module, inputs: Any, logits: Tensor) -> Tensor:
            # at least float32: losses take it anyway, and not every backend gathers narrower types
            return self.gather(logits if logits.dtype == torch.float64 else logits.float(), total)

        handle = model.register_forward_hook(gather)
        try:
            yield
        finally:
            handle.remove()

    def average_buffers(self, model: nn.Module) -> None:
        """Set floating-point buffers (batch norm's running statistics) to their mean over the processes.

        With batch norm per device each process has seen other images, but weight averages, validation and the shipped
        model must not depend on the process. (Within an update each process attacks the network with its own
        statistics: those of a clean pass before the attack are not exchanged.)
        """
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        for buffer, total in zip(buffers, self.sum(buffers), strict=True):
            if self.size > 1:
                buffer.copy_(total / self.size)


ALONE = World()
"""World of one process."""


class _Gather(torch.autograd.Function):
    """Rows of all processes, interleaved; backward: this process's rows of the gradient.

    The gradient is not summed over the processes: each takes the same loss of the same global tensor, so its rows
    of the gradient are complete.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, total: int) -> Tensor:
        if len(rows) != world.share(total):
            raise AssertionError(f"{len(rows)} rows on rank {world.rank} of a batch of {total}")
        ctx.world = world
        most = -(-total // world.size)
        padded = rows.new_zeros((most, *rows.shape[1:]))
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in range(world.size)]
        with _peers():
            dist.all_gather(parts, padded)
        # row j of rank r is row j * size + r of the batch
        return torch.stack(parts, dim=1).flatten(0, 1)[:total].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.rows(gradient).contiguous(), None, None


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Raise a PeerLostError if an exchange fails because another process is gone."""
    try:
        yield
    except RuntimeError as error:
        lost = peer_lost(error)
        if lost is None:
            raise
        raise lost from error


def peer_lost(error: BaseException) -> PeerLostError | None:
    """Return the error to raise if ``error`` comes from another process's end or silence. None: it does not."""
    text = " ".join(str(error).split())
    signs = ("gloo", "NCCL", "nccl", "onnection closed", "onnection reset", "imed out", "roken pipe", "TCPStore")
    if not isinstance(error, (dist.DistError, RuntimeError)) or not any(sign in text for sign in signs):
        return None
    if "imed out" in text or "imeout" in text:
        follow = f"; where it is only slow, set NUAT_TIMEOUT [s] (now {timeout_seconds():g})"
    else:
        follow = "; see its message, or what connects them failed"
    return PeerLostError(f"another process of this run ended or does not answer{follow}: {text[:300]}")


def launched() -> bool:
    """Return whether torchrun, or ``nuat ... --devices``, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def restarted() -> bool:
    """Return whether this process replaces one that died."""
    return launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, and leave them at the end; yield ``ALONE`` if it started none.

    Args:
        device: the run's device setting: cpu, cuda or auto. NCCL connects GPUs, Gloo everything else.

    Raises:
        InputError: there are fewer GPUs than processes, or the device is one GPU for all.
    """
    if not launched():
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    world = World(rank, size, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield world
        return
    gpus = device != "cpu" and torch.cuda.is_available()
    if gpus:
        check_gpus(device, int(os.environ.get("LOCAL_WORLD_SIZE", str(size))))
        torch.cuda.set_device(world.local_rank)
    try:
        timeout = datetime.timedelta(seconds=timeout_seconds())
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=timeout))  # type: ignore[attr-defined]
        # processes that replace dead ones may meet in the same store, which still holds the old addresses
        attempt = f"nuat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{size}"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=dist.PrefixStore(attempt, store),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise InputError(
            f"process {rank} of {size} could not join the others ({' '.join(str(error).split())[:200]}); start them "
            "with torchrun, or with --devices."
        ) from None
    try:
        with _peers():
            patience = datetime.timedelta(seconds=max(PATIENT_SECONDS, timeout.total_seconds()))
            group: Any = dist.new_group(backend="gloo", timeout=patience)
        yield dataclasses.replace(world, patient=group)
    finally:
        with contextlib.suppress(Exception):  # a peer may be gone already
            dist.destroy_process_group()


def check_gpus(device: str, processes: int) -> None:
    """Refuse more processes on this machine than it has GPUs, or one GPU for all of them."""
    if ":" in device:
        raise InputError(f"device={device}: several processes each take a GPU of their own; give --device cuda.")
    if device != "cpu" and torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise InputError(
            f"devices={processes}: this machine has {torch.cuda.device_count()} GPU(s); ask for at most that many, or "
            "give --device cpu."
        )


def timeout_seconds() -> float:
    """Return how long a process waits for the others [s].

    Raises:
        InputError: $NUAT_TIMEOUT is not a number > 0.
    """
    text = os.environ.get("NUAT_TIMEOUT", str(TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise InputError(f"NUAT_TIMEOUT={text!r}: expected a number of seconds > 0.")
    return seconds
