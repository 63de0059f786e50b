"""Infinities and NaN: raise at once, or note them on the device and ask later.

Asking whether a tensor is finite waits for the device. On the CPU that costs nothing, and ``check_finite`` raises. On a
GPU it would stop the host from running ahead, which makes a step fast. While a ``Watch`` is entered, the answer stays
on the device, and the update is skipped there (``nuat.training.update``).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from nuat.errors import NonFiniteError


class Watch:
    """Note whether anything that is checked while it is entered is infinite or NaN."""

    def __init__(self) -> None:
        self.bad: Tensor | None = None
        """Bool scalar on the device of the checked tensors. None: nothing was checked."""

    def note(self, total: Tensor) -> None:
        """Note whether a scalar is infinite or NaN."""
        bad = ~torch.isfinite(total)
        self.bad = bad if self.bad is None else self.bad | bad

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let ``check_finite`` note instead of raise."""
        token = _watch.set(self)
        try:
            yield
        finally:
            _watch.reset(token)


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def check_finite(tensor: Tensor, message: str) -> None:
    """Refuse a floating-point tensor that holds infinities or NaN; within a ``Watch``, note it without waiting.

    Raises:
        NonFiniteError: with ``message``.
    """
    # infinities and NaN survive a sum, and reading one number is faster than a flag per entry
    total = tensor.detach().sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    watch = _watch.get()
    if watch is not None:
        watch.note(total)
    elif not math.isfinite(total.item()) and not bool(torch.isfinite(tensor).all()):
        raise NonFiniteError(message)


def left_to_watch(tensor: Tensor) -> bool:
    """Return whether a ``Watch`` is entered; if so, let it note whether ``tensor`` is finite."""
    watch = _watch.get()
    if watch is not None:
        watch.note(tensor.detach().sum())
    return watch is not None
