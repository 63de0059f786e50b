"""The settings of a run: frozen keyword-only dataclasses. Every field has a unit, a range and a meaning.

A recipe (``nuat.recipes``) returns a complete ``TrainConfig``; the command line changes single fields of it.
Each class checks its own fields when it is made and raises ``InputError`` on the first invalid one.

The classes are imported on first use, so that ``nuat.config.arguments`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuat.config.data import DataConfig
    from nuat.config.model import ForeignClassifier, ForeignNetwork, ModelConfig
    from nuat.config.train import (
        AveragingConfig,
        DistributedConfig,
        EvaluationConfig,
        MonitorConfig,
        OptimizerConfig,
        ThreatConfig,
        TrainConfig,
    )

__all__ = [
    "AveragingConfig",
    "DataConfig",
    "DistributedConfig",
    "EvaluationConfig",
    "ForeignClassifier",
    "ForeignNetwork",
    "ModelConfig",
    "MonitorConfig",
    "OptimizerConfig",
    "ThreatConfig",
    "TrainConfig",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nuat.config' has no attribute {name!r}")
    model = ("ForeignClassifier", "ForeignNetwork", "ModelConfig")
    module = "data" if name == "DataConfig" else "model" if name in model else "train"
    return getattr(import_module(f"nuat.config.{module}"), name)
