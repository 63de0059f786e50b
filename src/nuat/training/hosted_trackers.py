"""Weights & Biases and MLflow as trackers, and the table of trackers by name. They are imported when asked for."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nuat.errors import InputError, did_you_mean
from nuat.training.tensorboard import TensorBoard
from nuat.training.trackers import Picture, TrackedRun, Tracker

_PARAMETERS_AT_ONCE = 100
_LONGEST_VALUE = 6000
"""Limits of MLflow on parameters: of one call, and of a value in characters."""


class WandB:
    """Tracker of Weights & Biases; its own variables, such as WANDB_MODE=offline, apply.

    Raises:
        InputError: wandb is not installed.
    """

    def __init__(self) -> None:
        self._wandb = _imported("wandb")
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        """Start a run in the project $WANDB_PROJECT, else nuat; a resumed run goes on in its own."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nuat"),
            name=run.folder.name,
            id=run.id,
            resume="allow",
            dir=str(run.folder),
            config={"recipe": run.recipe, **run.settings},
        )

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Send the numbers of an epoch."""
        self._run.log(dict(metrics), step=epoch)

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Send pictures, and the results as the summary of the run."""
        if pictures:
            self._run.log({name: self._wandb.Image(pixels) for name, pixels in pictures.items()})
        self._run.summary.update(dict(results))
        self._run.finish()


class MLflow:
    """Tracker of MLflow; its own variables, such as MLFLOW_TRACKING_URI, apply.

    Raises:
        InputError: mlflow is not installed.
    """

    def __init__(self) -> None:
        self._mlflow = _imported("mlflow")

    def start(self, run: TrackedRun) -> None:
        """Start a run with the settings as parameters; a resumed run goes on in its own."""
        nested = self._mlflow.active_run() is not None
        known = self._mlflow.search_runs(
            filter_string=f"tags.nuat_run = '{run.id}'", max_results=1, output_format="list"
        )
        if known:
            self._mlflow.start_run(run_id=known[0].info.run_id, nested=nested)
            return
        self._mlflow.start_run(run_name=run.folder.name, nested=nested, tags={"nuat_run": run.id})
        values = [
            (name, str(value)[:_LONGEST_VALUE]) for name, value in [("recipe", run.recipe), *run.settings.items()]
        ]
        for first in range(0, len(values), _PARAMETERS_AT_ONCE):
            self._mlflow.log_params(dict(values[first : first + _PARAMETERS_AT_ONCE]))

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Send the numbers of an epoch."""
        self._mlflow.log_metrics(dict(metrics), step=epoch)

    def finish(self, results: Mapping[str, float], pictures: Mapping[str, Picture]) -> None:
        """Send results and pictures, and end the run: as finished, or as killed if there are no results."""
        if results:
            self._mlflow.log_metrics(dict(results))
        for name, pixels in pictures.items():
            self._mlflow.log_image(pixels, f"{name}.png")
        self._mlflow.end_run("FINISHED" if results else "KILLED")


TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""Trackers by the name that ``--track`` takes."""


def named_trackers(names: Sequence[str]) -> list[Tracker]:
    """Return the trackers of these names; ``none`` alone is nobody.

    Raises:
        InputError: an unknown name, a name twice, or a package that is not installed.
    """
    if tuple(names) == ("none",):
        return []
    for name in names:
        if name not in TRACKERS:
            raise InputError(
                f"--track {name}: no such tracker.{did_you_mean(name, TRACKERS)} Known: {', '.join(TRACKERS)}, none."
            )
    if len(set(names)) < len(names):
        raise InputError(f"--track {','.join(names)}: give each tracker once.")
    return [TRACKERS[name]() for name in names]


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"the tracker {package} needs a package of this name; install it with: pip install {package}"
        ) from None
