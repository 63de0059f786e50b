"""Settings of runs as flat names and values, to tell runs of one name apart and to put seeds of one method together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_NO_EFFECT = (
    "seed", "device", "monitors.", "evaluation.", "checkpoint_every", "data.path", "data.cache", "data.download",
    "threat.norm",
)  # fmt: skip
"""Beginnings of the settings that do not part two methods: the data and the norm of runs are compared by themselves."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def identity(config: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the settings that runs of one method share, as text; ``ignored`` are beginnings of further names."""
    return {
        name: str(value)
        for name, value in flat(config).items()
        # one that an older version did not have is as good as one that is off
        if not name.startswith(_NO_EFFECT + ignored) and value is not None and value is not False
    }


def differences(configs: Sequence[Mapping[str, Any]], ignored: tuple[str, ...] = ()) -> list[str]:
    """Return, for each settings object, those in which they differ, as text; empty where they are all the same."""
    settings = [identity(config, ignored) for config in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    differing = [name for name in names if len({one.get(name) for one in settings}) > 1]
    short = {name: ".".join(name.split(".")[-2:]) for name in differing}
    return [", ".join(f"{short[name]} {one.get(name, 'none')}" for name in differing) for one in settings]


def told_apart(
    names: Sequence[str], configs: Sequence[Mapping[str, Any]], seeds: Sequence[int | None], places: Sequence[Path]
) -> list[str]:
    """Return names such that runs of one name are seeds of one method.

    Beside a name stand the settings in which its runs differ; and the folder, where two runs have all settings and the
    seed in common.
    """
    found = list(names)
    for name in dict.fromkeys(names):
        at = [i for i, other in enumerate(names) if other == name]
        for i, told in zip(at, differences([configs[i] for i in at]), strict=True):
            found[i] = f"{name} ({told})" if told else name
    counts = Counter(zip(found, seeds, strict=True))
    twice = {name for (name, _), count in counts.items() if count > 1}
    return [f"{name} ({place})" if name in twice else name for name, place in zip(found, _short(places), strict=True)]


def _short(places: Sequence[Path]) -> list[str]:
    """Return the ends of folders that tell them apart."""
    whole = [place.resolve() for place in places]
    for parts in range(1, max((len(place.parts) for place in whole), default=1)):
        ends = ["/".join(place.parts[-parts:]) for place in whole]
        if len(set(ends)) == len(ends):
            return ends
    return [str(place) for place in places]
