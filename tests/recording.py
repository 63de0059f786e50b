"""Stand-ins for CUDA graphs on a CPU: the operations of an update, recorded and repeated with the same arguments."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from nuat.training.update import Taken

T = TypeVar("T")

ASKS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "item")
"""Operations that wait for a GPU: they ask for a tensor's values, or for how many of them there are."""


_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


class AskedError(AssertionError):
    """Something of a step waits for the device."""


class NoQuestions(TorchDispatchMode):
    """Fails where a tensor's values, or how many of them there are, are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ASKS:
            raise AskedError(str(func))
        return func(*args, **(kwargs or {}))


class Operations(NoQuestions):
    """Lists the operations with all arguments; of tensors, their shapes and types."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.listed.append((str(func), *map(_described, args), *map(_described, (kwargs or {}).items())))
        return super().__torch_dispatch__(func, types, args, kwargs)


def _described(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return tuple(argument.shape), argument.dtype
    if isinstance(argument, (list, tuple)):
        return tuple(map(_described, argument))
    return argument if isinstance(argument, _PLAIN) else type(argument).__name__


class Tape(NoQuestions):
    """Records operations, and repeats them on the same tensors, as a CUDA graph does: Python is not asked again."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._calls.append((func, args, kwargs or {}, tree_flatten(result)[0]))
        return result

    @torch.no_grad()
    def repeat(self, results: Sequence[Tensor]) -> None:
        """Repeat the operations, and put what they give in the place of ``results``, tensors of the recording."""
        made: dict[int, Tensor] = {}

        def present(tensor: Tensor) -> Tensor:
            return made.get(id(tensor), tensor)

        for func, args, kwargs, before in self._calls:
            args, kwargs = (tree_map_only(Tensor, present, given) for given in (args, kwargs))
            now, _ = tree_flatten(func(*args, **kwargs))
            made |= {id(old): new for old, new in zip(before, now, strict=True) if isinstance(old, Tensor)}
        for tensor in results:
            tensor.copy_(present(tensor))


def taped(body: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
    """Record a function on the CPU in the place of ``nuat.training.capture.cuda_capture``."""
    tape = Tape()
    with tape:
        made = body()
    results = [made] if isinstance(made, Tensor) else _tensors(made)

    def repeat() -> T:
        tape.repeat(results)
        return made

    return repeat


def _tensors(taken: Any) -> list[Tensor]:
    """Return the tensors of an update that was taken."""
    assert isinstance(taken, Taken)
    values = [taken.bad, *(value for terms in taken.terms for value in (terms.loss, *terms.metrics.values()))]
    return [value for value in values if isinstance(value, Tensor)]
