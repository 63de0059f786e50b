"""Options that figures share on the command line of ``nuat analyse``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from nuat.config import DataConfig, ForeignNetwork, ThreatConfig
from nuat.data import Dataset, ImageSet, class_balanced
from nuat.errors import InputError

_DEFAULT_N = 1000


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Place and format of the record and the figure."""

    out: Path | None = None
    """Folder of the record and the figure. None: that of the first run or weights file, else the current one."""
    suffix: str = ""
    """End of the file names, analysis-<figure>-<suffix>, to keep several."""
    format: Literal["svg", "png", "pdf"] = "svg"
    """Format of the figure."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(OutputOptions):
    """Options of figures of finished runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, folders of campaigns (their finished rows count), row.json files, JSON files of results in the
    folder of a run, or folders of the results of a model from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(OutputOptions):
    """Options of figures of models."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs (their best weights), or anybody's models, as for nuat evaluate."""
    names: tuple[str, ...] = ()
    """Names of the models in the figure, in their order; by default the names of their methods."""
    seed: int = 0
    """Seed of the random draws."""
    batch_size: int = 250
    """Images attacked, or passed forward, at once."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    network: Annotated[ForeignNetwork, tyro.conf.arg(name="")] = field(default_factory=ForeignNetwork)
    """Network and normalisation of the models that nuat did not train."""
    threat: Annotated[ThreatConfig, tyro.conf.arg(name="")] = field(default_factory=ThreatConfig)
    """Perturbation set; by default the one that the models were trained for."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images; by default those of the runs."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions(ModelOptions):
    """Options of figures of models on a sample of the test images."""

    n: int | None = _DEFAULT_N
    """Number of test images, class-balanced. None: all."""

    def sample(self, dataset: Dataset) -> ImageSet:
        """Return the ``n`` test images, the same as in an evaluation. The default also takes fewer.

        Raises:
            InputError: n is below 1, or above the number of test images.
        """
        there = len(dataset.test)
        n = min(self.n, there) if self.n == _DEFAULT_N else self.n
        if n is None or n == there:
            return dataset.test.select(torch.arange(there))
        if not 1 <= n <= there:
            raise InputError(f"--n {n}: expected 1 to {there}, the number of test images; none takes all.")
        return dataset.test.select(class_balanced(dataset.test.labels, n, seed=0))
