"""Calibration against a loop, and temperatures against what they minimise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nuat.errors import InputError
from nuat.evaluation.calibration import BINS, calibration_error, check_temperature, fit_temperature, reliability

_edges = st.integers(0, 15).map(lambda k: k / 15)
_cases = st.lists(st.tuples(st.floats(0, 1) | _edges, st.booleans()), min_size=1, max_size=40)


def slow_bins(confidence: list[float], correct: list[bool]) -> list[list[int]]:
    """Return the images of each bin: those with (b - 1) / 15 < confidence <= b / 15; 0 goes to the first."""
    return [
        [i for i, c in enumerate(confidence) if (b - 1) / 15 < c <= b / 15 or (b == 1 and c == 0)] for b in range(1, 16)
    ]


@given(_cases)
@settings(max_examples=60)
def test_the_error_is_that_of_a_loop(case: list[tuple[float, bool]]) -> None:
    confidence, correct = [c for c, _ in case], [right for _, right in case]
    expected = 0.0
    for images in slow_bins(confidence, correct):
        if images:
            accuracy = sum(correct[i] for i in images) / len(images)
            expected += len(images) / len(case) * abs(accuracy - sum(confidence[i] for i in images) / len(images))
    found = calibration_error(torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct))
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_bins_are_those_of_a_loop() -> None:
    confidence = torch.tensor([0.0, 1 / 15, 0.2, 0.4, 0.6, 0.61, 0.8, 1.0, 0.9999], dtype=torch.float64)
    correct = torch.tensor([False, True, True, False, True, False, True, True, False])
    bins = reliability(confidence, correct)
    assert [one.n for one in bins] == [len(images) for images in slow_bins(confidence.tolist(), correct.tolist())]
    assert len(bins) == BINS == 15
    assert (bins[0].low, bins[0].high, bins[-1].high) == (0.0, 1 / 15, 1.0)
    assert (bins[9].accuracy, bins[9].confidence) == (0.0, 0.61)


def nll(logits: Tensor, labels: Tensor, temperature: float) -> float:
    return float(torch.nn.functional.cross_entropy(logits.double() / temperature, labels))


@pytest.mark.parametrize("scale", [0.2, 1.0, 9.0])
def test_the_fitted_temperature_is_the_likeliest(scale: float) -> None:
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (300,), generator=draw)
    logits = scale * (torch.randn(300, 4, generator=draw) + 1.5 * torch.nn.functional.one_hot(labels, 4))
    fitted = fit_temperature(logits, labels)
    grid = [fitted * (1 + step / 1000) for step in range(-500, 501)]
    assert min(grid, key=lambda t: nll(logits, labels, t)) == pytest.approx(fitted)
    assert nll(logits, labels, fitted) <= nll(logits, labels, 1.0)
    assert fitted == pytest.approx(scale * fit_temperature(logits / scale, labels), rel=1e-6)


@pytest.mark.parametrize(
    "logits",
    [
        [[5.0, 0.0], [0.0, 5.0]],  # right everywhere: the colder the likelier
        [[0.0, 5.0], [5.0, 0.0]],  # wrong everywhere: the hotter the likelier
        [[float("nan"), 0.0], [0.0, 1.0]],
    ],
)
def test_a_temperature_that_nothing_holds_is_refused(logits: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"none from 0.01 to 100 is the likeliest for 2 validation images"):
        fit_temperature(torch.tensor(logits), torch.tensor([0, 1]))


def test_no_image_and_no_number_are_refused() -> None:
    with pytest.raises(InputError, match="no validation images"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    for value in (0.0, -1.0, float("nan"), float("inf"), 101.0):
        with pytest.raises(InputError, match=r"--temperature .*: expected a number from 0.01 to 100"):
            check_temperature(value, "--temperature")
