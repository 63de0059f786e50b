"""Precisions and kernels that are chosen for a block, and put back after it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from nuat import hardware

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
    before = [part.fp32_precision for part in parts]
    with torch.autocast("cpu", torch.bfloat16), hardware.full_precision():
        assert [part.fp32_precision for part in parts] == ["ieee"] * 3
        assert not torch.is_autocast_enabled("cpu")
    assert [part.fp32_precision for part in parts] == before
