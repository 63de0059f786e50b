"""Trackers: objects that follow a run, such as TensorBoard; their failures never end a training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nuat.distributed.world import ALONE, World
from nuat.progress import Reporter

Picture: TypeAlias = NDArray[np.uint8]
"""A picture, uint8 [H, W, 3]."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run, as its trackers get to know it."""

    id: str
    """Digits of the run, the same after a resume."""
    folder: Path
    """Folder of its files."""
    recipe: str
    """Name of its recipe."""
    settings: Mapping[str, Any]
    """All settings by their dotted names, such as optimizer.lr.peak, as JSON values."""
    epoch: int = 0
    """Epochs that are done already; 0: a new run."""


class Tracker(Protocol):
    """Follower of a run: any object with these three methods, for ``nuat.run(config, trackers=[...])``.

    They are called in the first process alone. A tracker that raises an exception is named once and called no more.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from pathlib import Path
        >>> import nuat
        >>> class Printer:
        ...     def start(self, run):
        ...         print(run.recipe, run.settings["threat.eps"])
        ...
        ...     def log(self, epoch, metrics):
        ...         print(epoch, "validation/live/pgd" in metrics)
        ...
        ...     def finish(self, results, pictures):
        ...         print(results["final/epochs"], *pictures)
        >>> config = nuat.recipes.find("quickstart")()
        >>> config = replace(config, epochs=1, data=replace(config.data, train_limit=100))
        >>> _ = nuat.run(config, out=Path(tempfile.mkdtemp()) / "run", recipe="mine", trackers=[Printer()])
        mine 0.3
        1 True
        1 validation images, clean and attacked
    """

    def start(self, run: TrackedRun) -> None:
        """Take the settings, before the first step."""

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take the numbers of an epoch, counted from 1, such as train/loss, validation/live/pgd, lr and seconds."""

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Take the results at the end, and close.

        Args:
            results: figures of the run, such as final/best_validation, and accuracies on test images where it was
                evaluated, such as test/pgd-100. Empty: it was stopped.
            pictures: pictures by name: validation images, clean above and attacked below.
        """


class Tracking:
    """The trackers of a run while it is entered; at the end, however it comes, they are closed."""

    def __init__(self, trackers: Sequence[Tracker], reporter: Reporter, world: World = ALONE) -> None:
        self.results: dict[str, float] = {}
        """Results so far."""
        self.pictures: dict[str, Picture] = {}
        """Pictures so far."""
        self._trackers = list(trackers) if world.leads else []
        self._following: list[Tracker] = []
        self._reporter = reporter

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._each(lambda tracker: tracker.finish(self.results, self.pictures))

    def __bool__(self) -> bool:
        return bool(self._trackers)

    def start(self, run: TrackedRun) -> None:
        """Tell the trackers that a run starts or goes on."""
        self._following = list(self._trackers)
        self._each(lambda tracker: tracker.start(run))

    def log(self, epoch: int, record: Mapping[str, Any]) -> None:
        """Tell the trackers the numbers of an epoch's record."""
        metrics = numbers(record)
        self._each(lambda tracker: tracker.log(epoch, metrics))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._following):
            try:
                call(tracker)
            except Exception as error:  # somebody else's code and servers: hours of training must not end with them
                self._following.remove(tracker)
                reason = " ".join(str(error).split()) or type(error).__name__
                text = f"warning: {type(tracker).__name__} follows the run no more: {reason[:300]}"
                self._reporter.message(text, style="bold yellow")


def numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number of a record by its place in it, such as validation/live/pgd."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + name] = value
    return found
