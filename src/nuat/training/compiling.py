"""torch.compile of a run's network: what it needs, and how long it took."""

import importlib.util
import os
import shutil
from typing import Any

import torch
from torch import nn

from nuat.errors import InputError

BACKEND = "inductor"
"""What compiles: torch's own. It writes C++ for the CPU and Triton's language for a GPU."""


def check(device: torch.device) -> None:
    """Refuse to compile where what it takes is not installed.

    Raises:
        InputError: there is no C++ compiler for the CPU, or no Triton for a GPU.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise InputError("compile=true needs the package triton on a GPU; install it or leave compile out.")
        return
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise InputError(
            f"compile=true needs a C++ compiler on the CPU, and there is no {' or '.join(names)} here; install one, "
            "set $CXX, or leave compile out."
        )


def compile_network(model: nn.Module, device: torch.device) -> None:
    """Let the passes of the network inside ``model`` be compiled when they are first taken.

    The module stays itself, with its hooks, modes and names; training and evaluation mode, and a short last batch, are
    compiled each.
    """
    check(device)
    network: nn.Module = getattr(model, "net", model)  # without the layer that looks at the images' shape
    _dynamo().clear_compilation_metrics()
    network.compile(backend=BACKEND)


def seconds() -> float:
    """Return how long has been compiled since ``compile_network`` [s], forward and backward passes."""
    return sum((metric.duration_us or 0) / 1e6 for metric in _dynamo().get_compilation_metrics())


def _dynamo() -> Any:
    # the only place where torch counts what backward passes take to compile, which happens when they are first taken
    import torch._dynamo.utils  # here, since it takes seconds

    return torch._dynamo.utils
