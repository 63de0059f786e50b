"""Which runs are of one method, and the settings in which methods differ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from nuat.records.settings import flat, has_effect


def method_settings(config: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings, by dotted name, that runs of one method share.

    A setting that an older version did not have counts as one that is off, so those that are off are left out.

    Args:
        config: the run's settings, as JSON values.
        ignored: beginnings of further names that are left out.
    """
    return {
        name: value
        for name, value in flat(config).items()
        if name != "seed" and has_effect(name, "method", value) and not name.startswith(ignored)
        if value is not None and value is not False
    }


def method_key(config: Mapping[str, Any]) -> str:
    """Return a text that is the same for the settings of runs of one method."""
    return json.dumps(method_settings(config), sort_keys=True)


def differences(configs: Sequence[Mapping[str, Any]], ignored: tuple[str, ...] = ()) -> list[str]:
    """Return, for each run's settings, those in which the runs differ, as text; empty where they are all the same."""
    settings = [method_settings(config, ignored) for config in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    differing = [name for name in names if any(one.get(name) != settings[0].get(name) for one in settings)]
    short = {name: ".".join(name.split(".")[-2:]) for name in differing}
    recorded = [flat(config) for config in configs]
    return [", ".join(f"{short[name]} {setting_text(one.get(name))}" for name in differing) for one in recorded]


def setting_text(value: Any) -> str:
    """Return a setting's value as the command line takes it, to the last digit."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        steps = round(value * 255)
        # 8/255 rather than 0.03137254901960784, which is the same number
        return f"{steps}/255" if steps / 255 == value and len(repr(value)) > 8 else repr(value)
    return ",".join(setting_text(item) for item in value) if isinstance(value, list) else without_folder(str(value))


def without_folder(text: str) -> str:
    """Return text as it is, an absolute path without its folder on the machine that wrote it."""
    option, sign, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = PurePath(value)
    return f"{option}{sign}.../{path.name}" if path.is_absolute() and path.name else text
