"""Activations of the networks of this package, by the values of ``model.activation``.

Each network starts from the weights that it starts from with ReLU.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nuat.config.model import Activation
from nuat.errors import InputError


def _relu(x: Tensor) -> Tensor:
    """Return max(x, 0), in place."""
    return torch.relu_(x)


def _gelu(x: Tensor) -> Tensor:
    """Return x Phi(x), Phi the normal distribution (Hendrycks & Gimpel 2016)."""
    return F.gelu(x)  # torch's own is built in, and pickles of whole networks could not name it


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"relu": _relu, "silu": F.silu, "gelu": _gelu}


def activation_of(name: Activation) -> Callable[[Tensor], Tensor]:
    """Return the activation of a name, a function of a tensor of any shape; relu changes its argument.

    Raises:
        InputError: there is none of that name.
    """
    if name not in _ACTIVATIONS:
        raise InputError(f"activation={name!r}: expected one of {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]
