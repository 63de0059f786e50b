"""Operations of a step: multiplications and additions of convolutions and matrix products, counted as they run.

The count is torch's (``torch.utils.flop_counter``): a multiplication and an addition are two operations, and whatever
is no convolution and no matrix product (batch norm, activations, the eigenproblem of the nuclear norm) counts nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_ATEN = torch.ops.aten
_DRAWS = (_ATEN.rand, _ATEN.randn, _ATEN.randint)


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run while it is entered: forward, backward and attack; and the numbers drawn.

    torch's ``FlopCounterMode`` also sorts them by module, with hooks that an attack's gradient of the input alone does
    not allow.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        """Operations so far."""
        self.drawn = 0
        """Random numbers so far."""
        self.largest_draw = 0
        """Bytes of the most that were drawn at once."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += int(count(*args, **(kwargs or {}), out_val=out))
        if func._overloadpacket in _DRAWS:
            self.drawn += out.numel()
            self.largest_draw = max(self.largest_draw, out.nbytes)
        return out
