"""The number of images attacked at once, where nobody gives it."""

import pytest
import torch
from torch import nn

from nuat import evaluate
from nuat.evaluation import batch_size
from nuat.evaluation.batch_size import FEW, fitting_batch_size

MODEL = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


class OnGpu(torch.Tensor):
    """Images that claim to lie on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("bytes_per_image", "expected"),
    [(1, 2000), (200_000, 2000), (300_000, 1000), (1_600_000, 250), (10_000_000, 32), (10**9, 16)],
)
def test_a_gpu_takes_what_fits_its_memory(bytes_per_image: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fifths of 1 GB hold 2,000 images of 200 kB; where not even 16 fit, 16 are tried."""
    monkeypatch.setattr(batch_size, "memory_bytes", lambda device: 10**9)
    monkeypatch.setattr(batch_size, "pass_bytes", lambda model, x: len(x) * bytes_per_image)
    assert fitting_batch_size(MODEL, torch.rand(5, 3, 2, 2).as_subclass(OnGpu)) == expected


def test_a_processor_takes_the_usual_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "pass_bytes", lambda model, x: pytest.fail("measured on a processor"))
    assert fitting_batch_size(MODEL, torch.rand(FEW, 3, 2, 2)) == 250


def test_an_evaluation_records_the_number_that_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(6, 3, 2, 2), torch.arange(6) % 3
    assert evaluate(MODEL, x, y, ["clean"], inspected=True).batch_size == 250
    assert evaluate(MODEL, x, y, ["clean"], inspected=True, batch_size=4).batch_size == 4
