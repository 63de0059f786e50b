"""Check the fields of a campaign's TOML file, one by one; every error names the place of the field."""

from collections.abc import Mapping, Sequence
from typing import Any

from nuat.config.arguments import as_word
from nuat.errors import InputError, did_you_mean
from nuat.records.settings import flat_items

Settings = tuple[tuple[str, str], ...]
"""Pairs of a setting's name, such as ``defense.lam.peak``, and its value as text."""


def seeds(values: Any, where: str) -> tuple[int, ...]:
    """Return ``values`` if they are different whole numbers from 0."""
    good = isinstance(values, list) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)
    if not good or not values or len(set(values)) < len(values):
        raise InputError(f"{where}: seeds={values!r}: expected different whole numbers of at least 0, such as [0, 1].")
    return tuple(values)


def settings(values: Any, where: str) -> Settings:
    """Return the settings in a ``set`` table, as text by dotted name."""
    if not isinstance(values, dict):
        raise InputError(f'{where}: set={values!r}: expected settings such as {{ "defense.lam.peak" = 3 }}.')
    # TOML reads data.path = 1 without quotes as a table
    pairs = tuple((name, as_word(value)) for name, value in flat_items(values))
    names = [same_name(name) for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: set names {twice} twice; leave one out.")
    return pairs


def same_name(name: str) -> str:
    """Return the common form of a setting's name; the command line takes train_limit and train-limit."""
    return name.replace("_", "-")


def tables(values: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    """Return the tables ``[[name]]``, of which there must be one at least."""
    entries = values.get(name)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{where}: needs one or more [[{name}]] tables.")
    return entries


def check_names(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse a key that is not ``known``; the error suggests the nearest."""
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown key {name!r}.{did_you_mean(name, known)} Keys: {', '.join(known)}.")
