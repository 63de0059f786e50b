"""The memory of a pass on a GPU, by which an evaluation chooses its batch size."""

import pytest
import torch
from torch import nn

from nuat import evaluate
from nuat.evaluation.batch_size import FEW, fitting_batch_size, pass_bytes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU's memory is measured, and there is none")


def model(channels: int) -> nn.Module:
    convolution = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(channels * 32 * 32, 10)).cuda().eval()


def test_a_pass_takes_at_least_its_activations() -> None:
    x = torch.rand(FEW, 3, 32, 32, device="cuda")
    activations = FEW * 64 * 32 * 32 * 4
    assert activations <= pass_bytes(model(64), x) <= 20 * activations


def test_a_heavier_model_gets_no_more_images() -> None:
    x = torch.rand(FEW, 3, 32, 32, device="cuda")
    assert fitting_batch_size(model(1024), x) <= fitting_batch_size(model(8), x)


def test_an_evaluation_on_a_gpu_fits() -> None:
    x, y = torch.rand(2048, 3, 32, 32, device="cuda"), torch.arange(2048) % 10
    assert evaluate(model(64), x, y, ["pgd-2"], inspected=True).batch_size >= 250
