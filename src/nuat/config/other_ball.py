"""The settings of a recipe in another ball than its own."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from nuat.config.train import TrainConfig
from nuat.core.eps import EXAMPLES, parse_number
from nuat.core.threat import NORMS
from nuat.errors import InputError

_STEP = 0.1
"""Step of PGD in units of the radius, in another norm than the recipe's."""


def in_asked_ball(config: TrainConfig, words: Sequence[str]) -> TrainConfig:
    """Return ``config`` in the ball that the options ``words`` ask for, as a default of these options.

    Sizes suit their own ball alone. So those of the defense, such as NuAT's alpha, and the step of PGD keep their ratio
    to the radius; in another norm PGD steps by a tenth of it. Options without a meaning are left to whoever reads them.

    Raises:
        InputError: another norm without a radius.

    Example:
        >>> from nuat.config.other_ball import in_asked_ball
        >>> from nuat.recipes import find
        >>> config = in_asked_ball(find("quickstart")(), ["--threat.norm", "L1", "--threat.eps", "10"])
        >>> config.threat.eps, config.defense.alpha
        (10.0, 10.0)
    """
    own = config.threat
    norm, radius = _last(words, "--threat.norm") or own.norm, _last(words, "--threat.eps", "--eps")
    if norm not in NORMS:
        return config
    if radius is None:
        if norm == own.norm:
            return config
        raise InputError(
            f"--threat.norm {norm}: give its radius, too, such as --threat.eps {EXAMPLES[norm]}; eps is of {own.norm}."
        )
    try:
        eps = parse_number(radius)
        if (norm, eps) == (own.norm, own.eps):
            return config
        step = own.pgd_alpha / own.eps if norm == own.norm else _STEP
        sizes = {name: getattr(config.defense, name) for name in config.defense.sizes}
        scaled = {name: size / own.eps * eps for name, size in sizes.items() if size is not None}
        return replace(
            config,
            threat=replace(own, norm=norm, eps=eps, pgd_alpha=step * eps),
            defense=replace(config.defense, **scaled),
        )
    except (ValueError, InputError):
        return config


def _last(words: Sequence[str], *names: str) -> str | None:
    """Return the value of the last of the options ``names``, ``--name value`` or ``--name=value``."""
    found = None
    for word, following in zip_longest(words, words[1:]):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else following
    return found
