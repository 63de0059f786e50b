"""Counting forward and backward passes: the cost of a method that does not depend on the machine."""

from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn


class PassCounter:
    """Counts, while it is entered, the images that go forward through a model and backward from its logits.

    A forward of a batch of B images counts B; so does a backward, whether it reaches the weights or only the input.
    """

    def __init__(self, model: nn.Module) -> None:
        self.forwards = 0
        self.backwards = 0
        self._model = model
        self._handle: Any = None

    def __enter__(self) -> Self:
        self._handle = self._model.register_forward_hook(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def _count(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        images = output.shape[0]
        self.forwards += images
        if output.requires_grad:
            output.register_hook(lambda gradient: self._count_backward(images))  # type: ignore[no-untyped-call]

    def _count_backward(self, images: int) -> None:
        self.backwards += images
