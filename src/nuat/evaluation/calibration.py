"""Calibration: whether a model is right as often as it says, and the temperature that makes it so.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", sections 2 (reliability diagrams, expected
calibration error) and 4.2 (temperature scaling).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nuat.errors import InputError

BINS = 15
"""Bins of equal width in (0, 1], as in the paper's experiments."""
COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures that are allowed: beyond them probabilities are 0 and 1, or all alike, in floating point."""
_HALVINGS = 60


@dataclass(frozen=True)
class Bin:
    """Images whose answers have a confidence in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean confidence, in [0, 1]; 0 if there is no image."""
    accuracy: float
    """Fraction of right answers; 0 if there is no image."""


def reliability(confidence: Tensor, correct: Tensor) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram.

    Args:
        confidence: probability of each answer, floating point [n] in [0, 1]. A confidence of 0 counts to the first bin.
        correct: whether each answer is right, bool [n].

    Example:
        >>> import torch
        >>> from nuat.evaluation.calibration import reliability
        >>> bins = reliability(torch.tensor([0.9, 0.92, 0.5]), torch.tensor([True, False, True]))
        >>> [(one.n, one.accuracy) for one in bins if one.n]
        [(1, 1.0), (2, 0.5)]
    """
    edges = torch.arange(BINS + 1, dtype=torch.float64) / BINS
    place = torch.bucketize(confidence.double(), edges[1:-1])  # (low, high]
    n = torch.bincount(place, minlength=BINS)
    sums = [torch.bincount(place, weights=w.double(), minlength=BINS) / n.clamp(min=1) for w in (confidence, correct)]
    columns = zip(edges[:-1].tolist(), edges[1:].tolist(), n.tolist(), *(one.tolist() for one in sums), strict=True)
    return tuple(Bin(*column) for column in columns)


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Return the expected calibration error, in [0, 1]: the mean over images of |accuracy - confidence| of their bin.

    Arguments as for ``reliability``; n >= 1.

    Example:
        >>> import torch
        >>> from nuat.evaluation.calibration import calibration_error
        >>> round(calibration_error(torch.tensor([0.9, 0.9]), torch.tensor([True, False])), 6)
        0.4
    """
    return sum(one.n * abs(one.accuracy - one.confidence) for one in reliability(confidence, correct)) / len(correct)


def check_temperature(value: float, name: str) -> None:
    """Refuse a temperature out of range; ``name`` is that of the setting.

    Raises:
        InputError: it is.
    """
    if not COLDEST <= value <= HOTTEST:  # NaN fails, too
        raise InputError(f"{name} {value:g}: expected a number from {COLDEST:g} to {HOTTEST:g}; 1 changes nothing.")


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T at which the probabilities of ``logits / T`` are the likeliest for ``labels``.

    The negative log-likelihood is convex in 1 / T, so its derivative is halved down to the one root.

    Args:
        logits: [n, N] of images that the model was not trained on, and that no result is reported of.
        labels: int64 [n].

    Raises:
        InputError: there is no image, or the best temperature is out of range, as where every answer is right.

    Example:
        >>> import torch
        >>> from nuat.evaluation.calibration import fit_temperature
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 1, 1])), 4)  # right on three of four: log 3 = 2 / T
        1.8205
    """
    if len(labels) == 0:
        raise InputError("temperature: there are no validation images to fit it on; give a number.")
    z = logits.double()
    of_labels = z.gather(1, labels[:, None]).mean()

    def slope(inverse: float) -> float:
        return float(((z * inverse).softmax(dim=1) * z).sum(dim=1).mean() - of_labels)

    low, high = 1 / HOTTEST, 1 / COLDEST
    if not slope(low) < 0.0 < slope(high):  # NaN fails, too
        right = int((z.argmax(dim=1) == labels).sum())
        raise InputError(
            f"temperature: none from {COLDEST:g} to {HOTTEST:g} is the likeliest for {len(labels):,} validation images "
            f"({right:,} are right); hold out more images, or give a number."
        )
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return float(1 / (low * high) ** 0.5)
