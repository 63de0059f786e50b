"""Checks that the settings share."""

from nuat.errors import InputError


def check_seed(name: str, value: int) -> None:
    """Refuse a seed that torch's generators do not take."""
    if not 0 <= value < 2**63:
        raise InputError(f"{name}={value}: expected a seed from 0 to 2**63 - 1.")


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a value below ``least``, and NaN."""
    if not value >= least:
        raise InputError(f"{name}={value}: expected at least {least:g}.")
