"""The settings of a run: frozen keyword-only dataclasses, every field with its unit, range and meaning.

A recipe (``nuat.recipes``) returns a complete ``TrainConfig``; the command line changes single fields of it.
Each class checks its own fields when it is made and raises ``InputError`` on the first that cannot be.
"""

from nuat.config.data import DataConfig
from nuat.config.model import ModelConfig
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
    "ModelConfig",
    "MonitorConfig",
    "OptimizerConfig",
    "ThreatConfig",
    "TrainConfig",
]
