"""The norms of Gaussian matrices, against matrices that are drawn."""

import pytest
import torch

from nuat.core.gaussian_norms import PAPERS, frobenius_per_image, nuclear_per_image, weight_of


@pytest.mark.parametrize(
    ("images", "classes", "value"),
    # the first three as /M of Gaussian matrices are known from elsewhere
    [(64, 10, 1.23), (128, 10, 0.87), (128, 100, 7.86), (64, 100, 9.10), (256, 1000, 30.6)],
)
def test_known_values(images: int, classes: int, value: float) -> None:
    assert nuclear_per_image(images, classes) == pytest.approx(value, abs=0.03)


@pytest.mark.parametrize(
    ("images", "classes", "bound"),
    [
        *((64, 10, 0.003), (10, 64, 0.003), (10, 10, 0.015), (32, 100, 0.003), (100, 100, 0.003), (200, 30, 0.003)),
        *((2, 2, 0.055), (5, 2, 0.03), (1, 1, 0.065), (3, 1000, 0.003)),
        pytest.param(256, 1000, 0.003, marks=pytest.mark.slow),
    ],
)
def test_it_is_the_mean_of_gaussian_matrices(images: int, classes: int, bound: float) -> None:
    count = 20_000 if images * classes < 500 else 100 if images < 256 else 2
    a = torch.randn(count, images, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small = a.mT if images > classes else a
    eigenvalues = torch.linalg.eigvalsh(small @ small.mT)
    mean = float(eigenvalues.clamp(min=0).sqrt().sum(dim=1).mean()) / images
    assert nuclear_per_image(images, classes) == pytest.approx(mean, rel=bound)


def test_the_frobenius_norm_of_gaussian_matrices() -> None:
    a = torch.randn(500, 32, 100, generator=torch.Generator().manual_seed(0))
    assert frobenius_per_image(32, 100) == pytest.approx(float(a.norm(dim=(1, 2)).mean()) / 32, rel=0.002)


def test_lambda_is_the_papers_at_its_batch_and_classes_and_follows_gaussian_norms_elsewhere() -> None:
    for norm in ("nuclear", "frobenius"):
        assert weight_of(4.0, torch.zeros(PAPERS), norm, "gaussian") == 4.0  # type: ignore[arg-type]
        assert weight_of(4.0, torch.zeros(3, 7), norm, "batch") == 4.0  # type: ignore[arg-type]
    found = weight_of(4.0, torch.zeros(256, 1000), scale="gaussian")
    assert found * nuclear_per_image(256, 1000) == pytest.approx(4.0 * nuclear_per_image(64, 10))
    assert found == pytest.approx(0.16, abs=0.001)
    assert weight_of(1.0, torch.zeros(256, 160), "frobenius", "gaussian") == pytest.approx(0.5)
