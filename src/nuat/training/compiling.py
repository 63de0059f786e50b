"""Compile a run's network with torch.compile: its requirements and its time."""

import importlib.util
import os
import shutil
from typing import Any

import torch
import torch._functorch.config
from torch import nn

from nuat.errors import InputError

BACKEND = "inductor"
"""Torch's own compiler, which writes C++ for the CPU and Triton for a GPU."""


def check(device: torch.device) -> None:
    """Refuse to compile without a compiler.

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

    The module keeps its hooks, modes and names. Each mode, and a short last batch, is compiled on its own.
    """
    check(device)
    network: nn.Module = getattr(model, "net", model)  # without the layer that checks the shape of images
    _dynamo().clear_compilation_metrics()
    torch._functorch.config.donated_buffer = False  # an attack and the loss may go backward through one pass (LIET)
    network.compile(backend=BACKEND)


def seconds() -> float:
    """Return the seconds of compilation since ``compile_network``, forward and backward passes."""
    return sum((metric.duration_us or 0) / 1e6 for metric in _dynamo().get_compilation_metrics())


def _dynamo() -> Any:
    # torch counts the compilation of backward passes, which are compiled when first taken, here alone
    import torch._dynamo.utils  # takes seconds

    return torch._dynamo.utils
