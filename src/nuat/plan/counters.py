"""Counters of a few steps: operations, random numbers, memory, and exchanges between processes."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nuat.distributed.world import World
from nuat.training.state import tensors_of

T = TypeVar("T")

_DRAWS = (torch.ops.aten.rand, torch.ops.aten.randn, torch.ops.aten.randint)


class StepCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, random numbers and memory of everything that runs on the CPU while it is entered.

    Operations are the multiplications and the additions of convolutions and matrix products, as torch counts them
    (``torch.utils.flop_counter``); batch norm, activations and eigenproblems count nothing. torch's own
    ``FlopCounterMode`` sorts them by module, with hooks that fail where an attack takes the input's gradient alone.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        """Operations so far."""
        self.drawn = 0
        """Random numbers so far."""
        self.largest_draw = 0
        """Bytes of the largest single draw."""
        self.peak = 0
        """Most bytes of new tensors that were alive at once, without the workspace inside kernels."""
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += int(count(*args, **(kwargs or {}), out_val=out))
        if func._overloadpacket in _DRAWS:
            self.drawn += out.numel()
            self.largest_draw = max(self.largest_draw, out.nbytes)
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors_of((args, kwargs))}
        for tensor in tensors_of(out):
            place = (storage := tensor.untyped_storage()).data_ptr()
            if place not in known and place not in self._alive:  # neither a view nor a change in place
                self._alive[place] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, place, None)
        self.peak = max(self.peak, sum(self._alive.values()))
        return out


class CountingWorld(World):
    """A single process that counts what a defense would exchange with others."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.summed = 0

    def agree(self, value: T) -> T:
        """Return ``value``, whose length and bytes the first of several processes would send to the others."""
        self.calls += 2
        return super().agree(value)

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors; with several processes their sums would be taken."""
        self.calls += 1
        self.summed += sum(tensor.nbytes for tensor in tensors)
        return super().sum(tensors)


def storage_bytes(value: Any) -> int:
    """Return the bytes of the tensors in nested mappings and sequences, each storage counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors_of(value)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
