"""The rule by which lambda is scaled, against matrices and against the constants of the recipes."""

import pytest
import torch

from nuat.recipes import RECIPES, imagenet, imagenet100
from nuat.recipes.lambda_scaling import lambda_factor, nuclear_per_image, scale_warnings


@pytest.mark.parametrize(
    ("images", "classes", "value"),
    # the first three as /M of Gaussian matrices are known from elsewhere
    [(64, 10, 1.23), (128, 10, 0.87), (128, 100, 7.86), (64, 100, 9.10)],
)
def test_known_values(images: int, classes: int, value: float) -> None:
    assert nuclear_per_image(images, classes) == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize(("images", "classes"), [(64, 10), (10, 64), (100, 100), (300, 40), (30, 200)])
def test_it_is_the_mean_of_gaussian_matrices(images: int, classes: int) -> None:
    a = torch.randn(200, images, classes, generator=torch.Generator().manual_seed(0))
    mean = float(torch.linalg.svdvals(a).sum(dim=1).mean()) / images
    assert nuclear_per_image(images, classes) == pytest.approx(mean, rel=0.005)


def test_the_recipes_factors_follow_it() -> None:
    assert pytest.approx(lambda_factor((64, 10), (64, 100)), abs=5e-4) == imagenet100._LAM_SCALE
    assert pytest.approx(lambda_factor((64, 10), (256, 1000)), abs=5e-5) == imagenet._LAM_SCALE
    assert RECIPES["nuat-wa-imagenet-resnet50"]().batch_size == 256


def test_large_batches_of_few_classes_want_lambda_as_the_root_of_the_batch() -> None:
    assert lambda_factor((10_000, 10), (40_000, 10)) == pytest.approx(2.0, rel=1e-3)
    # and where the classes are more than the images, lambda does not depend on the batch but for I
    assert lambda_factor((8, 1000), (32, 1000)) == pytest.approx(1.0, abs=0.01)


def test_warnings_name_the_new_lambda_and_the_learning_rate() -> None:
    (first, second) = scale_warnings((64, 10), (1024, 10), 4.0)
    assert "0.31 with 1024 images and 10 classes, 1.23 with the recipe's 64 and 10" in first
    assert "--defense.lam.peak 15.7" in first
    assert "16 times that" in second
    assert scale_warnings((64, 10), (1024, 10), None) == [second]
    assert scale_warnings((64, 10), (64, 10), 4.0) == []
    assert len(scale_warnings((64, 10), (64, 100), 4.0)) == 1
