"""Models that are random in evaluation mode, and models whose logits depend on the batch."""

import numpy as np
import pytest
import torch
from diagnostics.masked_models import Bars, bars
from hypothesis import given
from hypothesis import strategies as st
from strangers.three_ways import Theirs, ThreeWays, case, library
from torch import Tensor, nn
from torch.nn import functional

from nuat.evaluation.inspection import inspect

RANDOM = "the model is random in evaluation mode"
BATCH = "change with the other images of their batch (batch norm on batch statistics)"


def noisy(model: nn.Module, x: Tensor) -> Tensor:
    return model(x + 0.1 * torch.randn_like(x))


def dropping(model: nn.Module, x: Tensor) -> Tensor:
    return model(functional.dropout(x, 0.3, training=True))


def by_batch(model: nn.Module, x: Tensor) -> Tensor:
    return model(x - x.mean(dim=0, keepdim=True) + 0.5)


def shifted(model: nn.Module, x: Tensor) -> Tensor:
    return model(x.roll(3, dims=3) if x.requires_grad else x)


def coarse(model: nn.Module, x: Tensor) -> Tensor:
    return model(functional.interpolate(functional.avg_pool2d(x, 2), x.shape[2:]) if x.requires_grad else x)


def noisy_if_wanted(model: nn.Module, x: Tensor) -> Tensor:
    return model(x + 0.3 * torch.randn_like(x) if torch.is_grad_enabled() else x)


def dropping_if_wanted(model: nn.Module, x: Tensor) -> Tensor:
    return model(functional.dropout(x, 0.5, training=x.requires_grad))


def by_batch_if_wanted(model: nn.Module, x: Tensor) -> Tensor:
    return by_batch(model, x) if x.requires_grad else model(x)


class Normalising(nn.Module):
    """Batch norm on the statistics of the batch, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)
        self.theirs = Theirs(lambda model, x: model(0.3 * x + 0.5))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.theirs(self.norm(x))
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("run", [noisy, dropping])
def test_a_random_model_is_called_so_and_gets_no_advice_on_scaling(run, three_ways: ThreeWays) -> None:
    for outcome in three_ways(Theirs(run)):
        assert RANDOM in outcome.said
        assert "adapt" not in outcome.said
        assert BATCH not in outcome.said


@pytest.mark.slow
@pytest.mark.parametrize("run", [shifted, coarse, noisy_if_wanted, dropping_if_wanted, by_batch_if_wanted])
def test_a_model_that_is_another_where_a_gradient_is_wanted_is_called_so(run, three_ways: ThreeWays) -> None:
    for outcome in three_ways(Theirs(run)):
        assert "otherwise where a gradient is wanted" in outcome.said
        assert RANDOM not in outcome.said
        assert BATCH not in outcome.said


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Theirs(by_batch), Normalising])
def test_a_model_that_depends_on_the_batch_is_called_so(make, three_ways: ThreeWays) -> None:
    for outcome in three_ways(make()):
        assert BATCH in outcome.said
        assert "--batch-size" in outcome.said
        assert RANDOM not in outcome.said


class Dropping(Normalising):
    """Batch norm on the statistics of the batch, and dropout, both in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.2, training=True))


def noisy_by_batch(model: nn.Module, x: Tensor) -> Tensor:
    return noisy(lambda z: by_batch(model, z), x)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Theirs(noisy_by_batch), Dropping])
def test_a_random_model_that_depends_on_the_batch_is_called_both(make, three_ways: ThreeWays) -> None:
    for outcome in three_ways(make()):
        assert RANDOM in outcome.said
        assert BATCH in outcome.said


@pytest.mark.slow
def test_it_is_said_when_draws_from_elsewhere_hide_what_the_batch_does(three_ways: ThreeWays) -> None:
    draw = np.random.default_rng(0)
    drawn = Theirs(lambda model, x: model(x + 0.1 * torch.from_numpy(draw.standard_normal(x.shape)).float()))
    for outcome in three_ways(drawn):
        assert RANDOM in outcome.said
        assert "cannot be judged, since the model draws its random numbers outside torch's generators" in outcome.said


@pytest.mark.slow
@given(st.floats(0.02, 1.0), st.sampled_from(["noise", "dropout", "permutation"]))
def test_little_randomness_is_seen_too(size: float, kind: str) -> None:
    def run(model: nn.Module, x: Tensor) -> Tensor:
        if kind == "noise":
            return model(x + size * torch.randn_like(x))
        if kind == "dropout":
            return model(functional.dropout(x, 0.5 * size, training=True))
        logits: Tensor = model(x)
        return logits + size * torch.rand(logits.shape)

    assert RANDOM in library(Theirs(run), attacks=("clean",)).said


def test_the_inspection_leaves_the_generator_as_it_was() -> None:
    before = torch.random.get_rng_state()
    assert RANDOM in " ".join(inspect(Theirs(noisy), case()))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_that_larger_pixels_would_drown_is_no_reason_to_scale_them() -> None:
    noisy_bars = Theirs(lambda model, x: model(x + 2.0 * torch.randn_like(x)), Bars())
    said = library(noisy_bars, bars(80), ("clean",)).said
    assert RANDOM in said
    assert "adapt" not in said
    exact = Theirs(lambda model, x: model(255 * x + 2.0 * torch.randn_like(x)), Bars())
    assert library(exact, bars(80), ("clean",)).accuracy("clean") == 1.0


@pytest.mark.parametrize("batch_size", [7, 60])
def test_neither_is_said_of_a_good_model(batch_size: int) -> None:
    assert library(Theirs(lambda model, x: model(x)), case(), batch_size=batch_size).said == ""


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "draws", "inspected"), [(0, 0, True), (0, 3, False), (0, 0, False), (7, 3, True)])
def test_a_model_that_seeds_torch_does_not_make_square_repeat_its_draws(seed: int, draws: int, inspected: bool) -> None:
    """Else 93 % of digits withstood 300 queries where 45 % do."""
    pytest.importorskip("pyautoattack", reason="the autoattack extra is not installed")

    def seeding(model: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(seed)
        torch.rand(draws)
        return model(x)

    attacks = ("clean", "square-60")
    runs = (seeding, lambda model, x: model(x))
    found, twin = (library(Theirs(run), attacks=attacks, inspected=inspected) for run in runs)
    assert found.verdicts == twin.verdicts
    assert ("seeds torch's random numbers" in found.said) != inspected
    assert twin.said == ""
