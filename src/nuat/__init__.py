"""nuat: train image classifiers that withstand adversarial perturbations at single-step cost, and prove it.

Everything public is imported on first use, so that ``import nuat`` and ``nuat --help`` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuat.checkpoints import load
    from nuat.evaluation import evaluate
    from nuat.nuclear import nuclear_norm
    from nuat.training import run

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load", "nuclear_norm", "run"]

_HOME = {"load": "checkpoints", "evaluate": "evaluation", "nuclear_norm": "nuclear", "run": "training"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"nuat.{_HOME[name]}"), name)
    raise AttributeError(f"module 'nuat' has no attribute {name!r}")
