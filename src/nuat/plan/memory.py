"""Memory of a device in training: what stays there throughout, and what a step adds.

What stays is counted from the tensors of the run's own state. What a step adds is measured: on a GPU by torch's
allocator, on a CPU as the tensors that autograd saves for the backward passes, each storage once, at the moment when
they are most. The CPU's measure leaves out workspace of the kernels and temporaries that no graph holds.
"""

import weakref
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from nuat.training.state import tensors_of


def size(value: Any) -> int:
    """Return the bytes of the tensors in nested mappings and sequences, each storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors_of(value)}
    return sum(storages.values())


def at(points: Mapping[int, int], images: int) -> float:
    """Return the bytes of a batch of ``images`` images, where those of some batches are known.

    Known, or on the line through the smallest and the largest batch; with one alone, in proportion to it.
    """
    if images in points:
        return points[images]
    first, last = min(points), max(points)
    if first == last:
        return points[last] * images / last
    return points[first] + (points[last] - points[first]) / (last - first) * (images - first)


class _Held:
    """A saved tensor, with something that dies with it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Follows, while it is entered, the bytes that autograd keeps for backward passes.

    ``peak`` is the most at any time, each storage counted once, without the storages that are given to begin with
    (weights and buffers, which are there anyway).
    """

    def __init__(self, without: Any = ()) -> None:
        self.peak = 0
        """Most bytes that were held at any time so far."""
        self._now = 0
        self._without = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(without)}
        self._holders: Counter[int] = Counter()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> _Held:
        # without its graph: a node that keeps what it returns would otherwise keep itself
        held = _Held(tensor.detach())
        storage = tensor.untyped_storage()
        place, count = storage.data_ptr(), storage.nbytes()
        if place not in self._without:
            # a storage that is held keeps its place in memory, so that no other can be taken for it
            self._holders[place] += 1
            if self._holders[place] == 1:
                self._now += count
                self.peak = max(self.peak, self._now)
            weakref.finalize(held, self._release, place, count)
        return held

    @staticmethod
    def _unpack(held: _Held) -> Tensor:
        return held.tensor

    def _release(self, place: int, count: int) -> None:
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self._now -= count
