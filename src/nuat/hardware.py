"""The machine and software behind a number: device, processor, memory, precision, versions."""

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from nuat.errors import InputError

NUAT_VERSION = metadata.version("nuat")


def resolve(name: str, gpu: int | None = None) -> torch.device:
    """Return the device called ``name``: auto (a GPU if there is one), cpu, cuda or cuda:<index>.

    ``gpu`` is the index that auto and cuda stand for in one of several processes. None: the current GPU.

    Raises:
        InputError: the name is another one, or the GPU does not exist.
    """
    if name == "auto":
        return resolve("cuda" if torch.cuda.is_available() else "cpu", gpu)
    if name == "cpu":
        return torch.device("cpu")
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise InputError(f"device={name!r}: expected auto, cpu, cuda or cuda:<index>.")
    if not torch.cuda.is_available():
        raise InputError(f"device={name}: no CUDA GPU is available here; use --device cpu or auto.")
    device = torch.device(name) if gpu is None or ":" in name else torch.device("cuda", gpu)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f"device={name}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0.")
    return device


def describe(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with torch's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return hardware_text(f"{processor()}, {torch.get_num_threads()} threads")


def hardware_text(hardware: object) -> str:
    """Return the name of a machine with "1 thread", where older records say "1 threads"."""
    return re.sub(r"\b1 threads\b", "1 thread", str(hardware))


def processor() -> str:
    """Return the processor's name."""
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes(device: torch.device) -> int | None:
    """Return the memory of ``device`` [bytes], for a CPU the main memory. None: the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that numbers depend on. None: not installed."""
    return {name: _version(name) for name in ("nuat", "torch", "torchvision", "timm", "numpy", "pyautoattack")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def full_precision() -> contextlib.AbstractContextManager[None]:
    """Compute in true fp32: no TF32 or bf16 inside matrix products and convolutions, and no autocast."""
    return computing_in("fp32")


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Set how matrix products and convolutions of fp32 tensors are computed, without autocast.

    tf32: on CUDA GPUs in TF32, torch's default for convolutions. Any other name: in true fp32.
    """
    backends: Any = torch.backends  # the stubs lack its newer parts
    on_gpu = (backends.cuda.matmul, backends.cudnn.conv)
    parts = (*on_gpu, backends.cudnn.rnn, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "tf32" if precision == "tf32" and part in on_gpu else "ieee"
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for part, kept in zip(parts, before, strict=True):
            part.fp32_precision = kept


@contextlib.contextmanager
def autotuned(device: torch.device) -> Iterator[None]:
    """Let cuDNN time its kernels on a GPU for each new shape, and keep the fastest.

    Another process may find another one fastest, which rounds otherwise: so a resumed run on a GPU is equal up to
    rounding alone. If torch was asked for deterministic kernels, nothing is changed.
    """
    cudnn = torch.backends.cudnn
    if device.type != "cuda" or torch.are_deterministic_algorithms_enabled() or cudnn.deterministic:
        yield
        return
    before, cudnn.benchmark = cudnn.benchmark, True
    try:
        yield
    finally:
        cudnn.benchmark = before
