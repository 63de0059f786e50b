"""Passes in training mode: one clean pass where the authors' code takes two, with the same batch norm statistics."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Passes = Literal["one", "authors"]


class CleanPass:
    """One clean pass in training mode that counts twice for batch norm, before the attack and after it.

    The authors' code takes three passes: clean, attacked, clean. The first and the last have the same batch and the
    same weights, so also the same batch statistics B. With momentum m, the first pass turns the running statistics R
    into (1 - m) R + m B. After the attacked pass that update is made once more, without a third pass.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        """Pass ``x`` [M, C, H, W] through a model in training mode."""
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        self._model = model
        self._buffers: list[Tensor] = []
        self._retained: list[float] = []
        for norm in norms:
            if norm.momentum is not None and norm.running_mean is not None and norm.running_var is not None:
                # .data: autograd counts changes of the running statistics, though no gradient reads them in training
                self._buffers += [norm.running_mean.data, norm.running_var.data]
                self._retained += [1.0 - norm.momentum] * 2
        with torch.no_grad():
            before = torch._foreach_mul(self._buffers, self._retained) if self._buffers else ()
        self.logits: Tensor = model(x)
        """f(X) [M, N], with its graph."""
        with torch.no_grad():
            # m B
            self._share = torch._foreach_sub(self._buffers, before) if self._buffers else ()

    def attacked(self, x_adv: Tensor) -> Tensor:
        """Return f(X~) [M, N] in training mode, with its graph; the running statistics then follow the clean batch."""
        logits: Tensor = self._model(x_adv)
        if self._buffers:
            with torch.no_grad():
                torch._foreach_mul_(self._buffers, self._retained)
                torch._foreach_add_(self._buffers, self._share)
        return logits


def reference_pass(model: nn.Module, x: Tensor) -> Tensor:
    """Return f(X) [M, N] in training mode without its graph: the authors' pass before the attack."""
    with torch.no_grad():
        logits: Tensor = model(x)
    torch.clear_autocast_cache()  # weights cast without a graph would give the loss none
    return logits
