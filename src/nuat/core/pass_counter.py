"""Counter of forward and backward passes: the cost of a method on any machine."""

from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn


class PassCounter:
    """Counts the forward passes of a model, and the backward passes from its logits, while it is entered.

    ``forwards`` and ``backwards`` count images: a batch of B images counts B each way, whether the backward pass
    reaches the weights or the input alone. The other counts are of batches.
    """

    def __init__(self, model: nn.Module) -> None:
        self.forwards = 0
        """Images passed forward."""
        self.backwards = 0
        """Images passed backward."""
        self.training_batches = 0
        """Batches passed forward in training mode."""
        self.evaluation_batches = 0
        """Batches passed forward in evaluation mode."""
        self.backward_batches = 0
        """Batches passed backward."""
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
        self.training_batches += module.training
        self.evaluation_batches += not module.training
        if output.requires_grad:
            output.register_hook(lambda gradient: self._count_backward(images))  # type: ignore[no-untyped-call]

    def _count_backward(self, images: int) -> None:
        self.backwards += images
        self.backward_batches += 1
