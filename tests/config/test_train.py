"""Settings of a run that are out of their range."""

import re
from collections.abc import Callable

import pytest

from nuat.config import EvaluationConfig, MonitorConfig, OptimizerConfig, TrainConfig
from nuat.defenses import FGSMAT
from nuat.errors import InputError


def run(**settings: object) -> TrainConfig:
    return TrainConfig(defense=FGSMAT(), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "name", "value", "least"),
    [
        (run, "epochs", 0, 1),
        (run, "accumulate", 0, 1),
        (run, "checkpoint_every", 0, 1),
        (run, "checkpoint_batches", 0, 1),
        (run, "validate_every", 0, 1),
        (OptimizerConfig, "weight_decay", -1e-4, 0),
        (OptimizerConfig, "weight_decay", float("nan"), 0),
        (MonitorConfig, "collapse_patience", 0, 1),
        (EvaluationConfig, "n", 0, 1),
        (EvaluationConfig, "batch_size", 0, 1),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(
    make: Callable[..., object], name: str, value: float, least: int
) -> None:
    with pytest.raises(InputError, match=re.escape(f"{name}={value}: expected at least {least}.")):
        make(**{name: value})
