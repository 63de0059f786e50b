"""Analyses: what the paper's figures show, computed on anybody's models and runs, one file an analysis.

Each leaves a record (``nuat.analysis.record``); ``nuat.report.plots`` draws figures from records alone.
"""

import json
from pathlib import Path

from nuat.analysis.confusion import Confusion
from nuat.analysis.cost import Cost
from nuat.analysis.eps_curve import EpsCurve
from nuat.analysis.lambda_sweep import LambdaSweep
from nuat.analysis.loss_surface import LossSurface
from nuat.analysis.nuclear_profile import NuclearProfile
from nuat.analysis.record import Record
from nuat.analysis.steps_curve import StepsCurve
from nuat.analysis.training_curves import TrainingCurves
from nuat.errors import InputError

KINDS: dict[str, type[Record]] = {
    "loss-surface": LossSurface,
    "confusion": Confusion,
    "nuclear-profile": NuclearProfile,
    "cost": Cost,
    "lambda-sweep": LambdaSweep,
    "eps-curve": EpsCurve,
    "steps-curve": StepsCurve,
    "training": TrainingCurves,
}
"""The record of each analysis, by its kind."""

__all__ = ["KINDS", "Record", "read"]


def read(path: Path) -> Record:
    """Return the record in a file of ``nuat analyse``, of the class that its kind says.

    Raises:
        InputError: no such file, not JSON, or not such a record.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no such file, or it cannot be read; 'nuat analyse' writes records.") from None
    except ValueError:
        raise InputError(f"{path}: not JSON, or cut off; 'nuat analyse' writes records.") from None
    kind = KINDS.get(str(values.get("kind"))) if isinstance(values, dict) else None
    if kind is None:
        raise InputError(f"{path}: not a record of 'nuat analyse' (kinds: {', '.join(KINDS)}).")
    try:
        return kind.from_json(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
