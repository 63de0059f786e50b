"""Refuse settings that are out of range; sizes of perturbations are in ``nuat.core.threat``."""

import math

from nuat.errors import InputError


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a value below ``least``, and NaN."""
    if not value >= least:
        raise InputError(f"{name}={value}: expected at least {least:g}.")


def check_fraction(name: str, value: float) -> None:
    """Refuse a fraction of the run outside [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise InputError(f"{name}={value:g}: expected a fraction of the run in [0, 1).")


def check_size(name: str, value: float) -> None:
    """Refuse a size of a perturbation that is not finite and > 0; its norm (``check_radius``) is not known yet."""
    if not 0.0 < value < math.inf:
        raise InputError(f"{name}={value:g}: expected a size > 0 in the units of eps.")


def check_seed(name: str, value: int) -> None:
    """Refuse a seed that torch's generators do not take."""
    if not 0 <= value < 2**63:
        raise InputError(f"{name}={value}: expected a seed from 0 to 2**63 - 1.")


def check_tau(name: str, value: float) -> None:
    """Refuse a decay of an average outside [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise InputError(f"{name}={value:g}: expected a decay in [0, 1).")


def check_weight(name: str, value: float) -> None:
    """Refuse the weight of a loss term that is not finite or below 0."""
    if not 0.0 <= value < math.inf:
        raise InputError(f"{name}={value:g}: expected a finite weight >= 0.")
