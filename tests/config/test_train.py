"""Settings of a run that are out of their range."""

import re
from collections.abc import Callable

import pytest

from nuat.config import EvaluationConfig, MonitorConfig, OptimizerConfig, TrainConfig
from nuat.defenses import FGSMAT, FreeAT
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


@pytest.mark.parametrize(
    ("make", "settings", "told"),
    [
        (OptimizerConfig, {"momentum": 1.0}, "optimizer.momentum=1: expected a value in [0, 1)"),
        (OptimizerConfig, {"momentum": -0.1}, "optimizer.momentum=-0.1: expected a value in [0, 1)"),
        (OptimizerConfig, {"momentum": 0.0, "nesterov": True}, "optimizer.nesterov has no effect without momentum"),
        (MonitorConfig, {"overfitting_gap": 0.0}, "monitors.overfitting_gap=0: expected an accuracy gap in (0, 1]"),
        (MonitorConfig, {"overfitting_gap": 1.5}, "monitors.overfitting_gap=1.5: expected an accuracy gap in (0, 1]"),
        (MonitorConfig, {"collapse_margin": -0.1}, "monitors.collapse_margin=-0.1: expected a value in [0, 1)"),
        (MonitorConfig, {"collapse_margin": 1.0}, "monitors.collapse_margin=1: expected a value in [0, 1)"),
        (TrainConfig, {"defense": FreeAT(), "accumulate": 2}, "accumulate=2: FreeAT updates the weights"),
    ],
)
def test_settings_that_cannot_be_are_named(make: Callable[..., object], settings: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        make(**settings)
