"""nuat: train image classifiers that withstand adversarial perturbations at single-step cost, and prove it.

Public names are imported on first use, so that ``import nuat`` and ``nuat --help`` do not wait for torch.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuat.core.nuclear import nuclear_norm
    from nuat.evaluation.evaluate import evaluate
    from nuat.records.checkpoints import load
    from nuat.training.run import run

__version__ = metadata.version("nuat")
__all__ = ["__version__", "evaluate", "load", "nuclear_norm", "run"]

_HOME = {
    "load": "records.checkpoints",
    "evaluate": "evaluation.evaluate",
    "nuclear_norm": "core.nuclear",
    "run": "training.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"nuat.{_HOME[name]}"), name)
    raise AttributeError(f"module 'nuat' has no attribute {name!r}")
