"""Search copy compiled by torch.compile, and compared with the eager copy before it is trusted.

Attacks drop images that are broken, and each new shape would be compiled again. So a batch is padded to the next of few
sizes: the full batch and its halvings, with gradients and without. The first batch of each goes through both copies.

On a CUDA GPU, CUDA graphs replay the passes. A replay overwrites what the one before returned, so logits and gradients
leave as copies. It spares what a backward pass still needs: torch begins no new step of graphs while one is pending.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from nuat.hardware import computing_in
from nuat.models.folding import differences

BACKEND = "inductor"
"""Torch's own compiler, which writes C++ for the CPU and Triton for a GPU."""
_LEAST = 32
"""Images of the smallest padded batch."""
_TOLERANCES = {"fp32": (1e-4, 1e-2), "tf32": (2e-3, 3e-2), "bf16": (2e-2, 0.1)}
"""Largest relative differences of logits and gradient: as for a folded copy, and more where a search rounds more
(a trained ResNet-18 in bf16, on a CPU: 0.0015 and 0.016)."""


class CompiledCopy(nn.Module):
    """A model compiled for batches of few sizes, under ``settings_for_compiling``; itself where that fails.

    Args:
        eager: images [B, C, H, W] to logits [B, N], in evaluation mode, with frozen weights. Rows are independent.
        x: the largest usual batch, [B, C, H, W]; all but its last image are compared at once, in a padded batch.
        precision: arithmetic of the search, as ``search_precision`` names it.
        refused: why nothing is to be compiled; empty: compile.
    """

    def __init__(self, eager: nn.Module, x: Tensor, precision: str = "fp32", *, refused: str = "") -> None:
        super().__init__()
        self.eager = eager
        self.note = ""
        """Sentence that says why the eager copy answers; empty: the compiled one does."""
        self.sizes = padded_sizes(len(x))
        self._tolerances = _TOLERANCES[precision]
        self._trusted: set[tuple[int, bool]] = set()
        """Sizes on which the copies agreed, with gradients or without."""
        self._compiled: Callable[[Tensor], Tensor] = eager.forward
        if refused:
            self._give_up(refused)
            return
        mode: dict[str, Any] = {"mode": "reduce-overhead"} if x.is_cuda else {}
        with self._falling_back():
            self._compiled = torch.compile(eager.forward, dynamic=False, backend=BACKEND, **mode)
        with computing_in(precision), torch.enable_grad():
            self(x[: max(1, len(x) - 1)].detach().requires_grad_())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, N] of ``x`` [B, C, H, W]."""
        parts = torch.split(x, self.sizes[0])
        return self._answer(x) if len(parts) == 1 else torch.cat([self._answer(part) for part in parts])

    def _answer(self, x: Tensor) -> Tensor:
        if not self.note and len(x):
            size = min(size for size in self.sizes if size >= len(x))
            kind = size, torch.is_grad_enabled() and x.requires_grad
            with self._falling_back():
                if kind in self._trusted:
                    return self._padded(x, size)
                self._compare(x, *kind)
        return cast("Tensor", self.eager(x))

    def _padded(self, x: Tensor, size: int) -> Tensor:
        """Return the logits [B, N] of the compiled copy on ``x``, padded with its first image to ``size`` images."""
        z = x.new_empty((size, *x.shape[1:]))  # always of one layout
        z[len(x) :] = x[:1].detach()
        z[: len(x)] = x
        if z.requires_grad:
            z.register_hook(torch.clone)  # type: ignore[no-untyped-call]
        with torch.set_grad_enabled(z.requires_grad):  # the mode of gradients makes another graph
            return self._compiled(z)[: len(x)].clone()

    def _compare(self, x: Tensor, size: int, differentiable: bool) -> None:
        """Trust a size if logits, and the gradient in the images if there is one, differ by rounding alone.

        With CUDA graphs the first pass is not recorded, the second is, and the third is a replay. Each has other images
        than the one before.
        """
        with torch.no_grad():
            y = self.eager(x).argmin(dim=1) if differentiable else None  # whose loss is steep
        for images in (x, 1.0 - x, x):
            apart = differences(self.eager, lambda z: self._padded(z, size), images, y)
            for name, found, most in zip(("logits", "gradients"), apart, self._tolerances, strict=False):
                if not found <= most:  # also of NaN
                    self._give_up(f"the {name} of one differ by {found:.2g} of their size in a batch of {size}")
                    return
        self._trusted.add((size, differentiable))

    def _give_up(self, why: str) -> None:
        self.note = f"attacks search without a compiled copy: {why}."

    @contextlib.contextmanager
    def _falling_back(self) -> Iterator[None]:
        """Give the compiled copy up if it raises anything."""
        try:
            yield
        except Exception as error:
            why = " ".join(str(error).partition("\n\n")[0].split())  # torch's advice follows
            self._give_up(f"torch.compile failed ({type(error).__name__}: {why[:200]})")


def padded_sizes(most: int) -> tuple[int, ...]:
    """Return the sizes of padded batches, largest first: ``most`` and its halvings, rounded up, down to 32."""
    half = -(-most // 2)
    return (most, *padded_sizes(half)) if half >= _LEAST else (most,)


@contextlib.contextmanager
def settings_for_compiling(asked: bool = True) -> Iterator[None]:
    """Set torch for a ``CompiledCopy``: for many graphs, and for more than one backward pass through one (FAB)."""
    if not asked:
        yield
        return
    import torch._dynamo.config  # takes seconds
    import torch._functorch.config

    # by default torch keeps 8 graphs in a process, and is eager in silence after that
    limits = torch._dynamo.config.patch(recompile_limit=256, fail_on_recompile_limit_hit=True)
    with limits, torch._functorch.config.patch(donated_buffer=False):
        yield
