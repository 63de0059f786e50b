"""Warnings of an evaluation: kept for the record, and passed on as they come."""

import warnings
from collections.abc import Callable

from nuat.distributed.world import World

Warn = Callable[[str], None]
"""Function called with one warning about the model."""


class WarningLog:
    """The warnings of an evaluation, each passed on at once by the first process."""

    def __init__(self, warn: Warn | None, world: World) -> None:
        self.texts: list[str] = []
        self._warn = warn
        self._world = world

    def add(self, *texts: str) -> None:
        """Keep warnings and pass them on."""
        for text in texts:
            self.texts.append(text)
            if self._warn is not None and self._world.leads:
                self._warn(text)
            elif self._world.leads:
                warnings.warn(text, stacklevel=3)  # the line that called evaluate()

    def unsaid(self, text: str) -> tuple[str, ...]:
        """Return what any process has to say, empty: nothing, and none has said yet."""
        said = ("", *self.texts)
        return tuple(one for one in dict.fromkeys(self._world.objects(text, patient=True)) if one not in said)
