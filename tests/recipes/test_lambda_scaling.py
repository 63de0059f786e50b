"""The rule by which lambda is scaled, and the recipes whose defense scales it."""

from dataclasses import replace

import pytest
import torch

from nuat.core.gaussian_norms import weight_of
from nuat.recipes import RECIPES
from nuat.recipes.lambda_scaling import lambda_factor, scale_warnings


def test_recipes_for_other_batches_and_classes_than_the_papers_scale_lambda() -> None:
    scales = {name: getattr(make().defense, "scale", None) for name, make in RECIPES.items()}
    scaled = {name for name, scale in scales.items() if scale == "gaussian"}
    assert {name.split("-")[0] for name in scaled} <= {"nuat", "nuat2", "speedrun", "robust", "finetune"}
    assert {name for name in scaled if name.startswith("nuat-")} == {
        *("nuat-imagenet100-resnet18", "nuat-wa-imagenet100-resnet18", "nuat-wa-imagenet-resnet50")
    }
    assert {"speedrun-cifar10-resnet18", "robust-folder", "finetune-folder"} <= scaled


def test_robust_mnist_is_nuat_mnist_with_the_scaled_lambda() -> None:
    plain, scaled = RECIPES["nuat-mnist"](), RECIPES["robust-mnist"]()
    defense = replace(scaled.defense, scale="batch")  # type: ignore[call-arg]
    assert defense != scaled.defense
    assert replace(scaled, defense=defense) == plain
    assert weight_of(4.0, torch.zeros(scaled.batch_size, 10), scale="gaussian") == 4.0
    rest = (60_000 - 1_000) % scaled.batch_size  # training digits without those of validation
    assert weight_of(1.0, torch.zeros(rest, 10), scale="gaussian") == pytest.approx(0.94, abs=0.005)


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
