"""Exponential averages of the weights (-WA, section 5.4), buffers included.

An average is a plain dictionary of tensors named as in ``model.state_dict()``, so it is checkpointed and shipped
like weights. Floating-point buffers (batch norm's running statistics) are averaged with the weights, as the authors'
scripts do; integer buffers (its batch counter) are copied.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Average = dict[str, Tensor]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of ``state_dict`` by name, not copied."""
    return {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}


def start(model: nn.Module) -> Average:
    """Return a copy of the present weights and buffers as the first average."""
    return {name: tensor.clone() for name, tensor in _tensors(model).items()}


@torch.no_grad()
def update(average: Average, model: nn.Module, tau: float, *, skip: Tensor | None = None) -> None:
    """Set average <- tau * average + (1 - tau) * model, in place.

    ``skip`` is a bool scalar on the model's device; where it is true the average stays, provided the model is finite.
    With it, ``tau`` may be a scalar on the device, too.
    """
    now = _tensors(model)
    floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
    held, new = [average[n] for n in floating], [now[n] for n in floating]
    if skip is None:
        torch._foreach_lerp_(held, new, 1.0 - tau)
    else:
        moves = torch._foreach_sub(new, held)
        torch._foreach_mul_(moves, ((1.0 - tau) * (~skip).double()).to(moves[0].dtype))  # of one dtype: a single kernel
        torch._foreach_add_(held, moves)
    for name, tensor in average.items():
        if not tensor.is_floating_point():
            tensor.copy_(now[name])


def decay(tau: float, step: int, *, warmup: bool) -> float:
    """Return the decay of update ``step`` (from 0): tau, or with warm-up min(tau, (1 + step) / (10 + step))."""
    return min(tau, (1 + step) / (10 + step)) if warmup else tau


def forward(model: nn.Module, average: Average) -> Callable[[Tensor], Tensor]:
    """Return ``model`` as a function of images, with the averaged weights and buffers and in the model's own mode.

    Call it in evaluation mode: in training mode batch norm would update the averaged running statistics.
    """

    def averaged(x: Tensor) -> Tensor:
        logits: Any = torch.func.functional_call(model, average, (x,))
        return logits  # type: ignore[no-any-return]

    return averaged


def module_of(model: nn.Module, average: Average) -> nn.Module:
    """Return a copy of ``model`` that holds the averaged tensors themselves, so that it follows the average."""
    averaged = copy.deepcopy(model)
    averaged.load_state_dict(average, assign=True)
    return averaged
