"""Precisions and kernels that are chosen for a block, and put back after it."""

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from nuat import hardware
from nuat.errors import InputError

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark = False
    yield
    cudnn.benchmark, cudnn.deterministic = before[:2]
    torch.use_deterministic_algorithms(before[2])


def tuned(device: torch.device) -> bool:
    with hardware.autotuned(device):
        return torch.backends.cudnn.benchmark


def test_kernels_are_timed_on_a_gpu_unless_deterministic_ones_are_asked_for() -> None:
    assert tuned(CUDA)
    assert not torch.backends.cudnn.benchmark
    assert not tuned(CPU)
    torch.backends.cudnn.deterministic = True
    assert not tuned(CUDA)
    torch.backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(True)
    assert not tuned(CUDA)


def test_full_precision_is_put_back() -> None:
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.conv)

    def now() -> list[str]:
        return [part.fp32_precision for part in parts]

    before = now()
    with torch.autocast("cpu", torch.bfloat16), hardware.full_precision():
        assert now() == ["ieee"] * 3
        assert not torch.is_autocast_enabled("cpu")
        with hardware.computing_in("tf32"):  # by default convolutions have it, and the matrix products do not
            assert now() == ["tf32", "tf32", "ieee"]
        with hardware.computing_in("bf16"):
            assert now() == ["ieee"] * 3
        assert now() == ["ieee"] * 3
    assert now() == before


@pytest.mark.parametrize(
    ("gpus", "name", "gpu", "found"),
    [
        (0, "auto", None, "cpu"),
        (0, "cpu", None, "cpu"),
        (2, "auto", None, "cuda"),
        (2, "cpu", 1, "cpu"),
        (2, "auto", 1, "cuda:1"),
        (2, "cuda", 1, "cuda:1"),
        (2, "cuda:0", 1, "cuda:0"),
        (0, "cuda", None, "device=cuda: no CUDA GPU is available here"),
        (0, "gpu", None, "device='gpu': expected auto, cpu, cuda or cuda:<index>"),
        (2, "cuda:x", None, "device='cuda:x': expected auto"),
        (2, "cuda:2", None, "device=cuda:2: this machine has 2 GPU"),
        (2, "auto", 2, "device=cuda: this machine has 2 GPU"),
    ],
)
def test_devices(gpus: int, name: str, gpu: int | None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if found.startswith("device"):
        with pytest.raises(InputError, match=re.escape(found)):
            hardware.resolve(name, gpu)
    else:
        assert hardware.resolve(name, gpu) == torch.device(found)


def test_what_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (hardware.memory_bytes(CPU) or 0) > 2**20

    def refused(*_: object) -> Any:
        raise OSError

    def not_installed(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    assert set(hardware.versions().values()) == {None}
    monkeypatch.setattr(os, "sysconf", refused)
    monkeypatch.setattr(Path, "read_text", refused)
    assert hardware.memory_bytes(CPU) is None
    assert hardware.processor() == (platform.processor() or platform.machine())
