"""Row of the catalogue: everything that the command, the report and the reader of records know of a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from nuat.data import Dataset
from nuat.figures.common_options import ModelOptions, OutputOptions, RunOptions
from nuat.figures.figure_record import FigureRecord
from nuat.figures.measuring import NamedModel
from nuat.progress import TerminalReporter
from nuat.records.finished_runs import FinishedRun

if TYPE_CHECKING:  # it takes a second to import; only drawing functions import it
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """A kind of figure. Use ``ModelFigure`` or ``RunFigure``."""

    record: type[FigureRecord]
    """Class of its records. Its ``kind`` is the name of the figure."""
    options: type[OutputOptions]
    """Options of ``nuat analyse``; the docstring is shown by --help."""
    summary: str
    """Line in the list of ``nuat analyse --help``."""
    title: str
    """Heading in a report."""
    caption: str
    """Caption in a report: what is drawn, and which way is good."""
    draw: Callable[[Sequence[Any]], "Figure"]
    """Records to one figure. Called by ``catalogue.draw`` in the style of all figures."""
    table: Callable[[Any], Table] | None = None
    """Record to the table that is printed with it. None: no table."""
    has_colour_map: bool = False
    """Whether colours stand for values, so that a dark page must not invert them."""

    @property
    def name(self) -> str:
        """Name on the command line and in the names of files."""
        return self.record.kind

    @property
    def takes(self) -> str:
        """Positional arguments, as help shows them."""
        raise AssertionError("takes is abstract")


@dataclass(frozen=True, kw_only=True)
class ModelFigure(FigureKind):
    """A figure of models on test images."""

    options: type[ModelOptions]
    measure: Callable[[Any, list[NamedModel], Dataset, TerminalReporter], FigureRecord]
    """Options, models (all on one device), data set and reporter to the record."""
    single: bool = False
    """Whether it takes one model only."""
    uses_pgd_alpha: bool = False
    """Whether --pgd-alpha has an effect."""

    @property
    def takes(self) -> str:
        """Positional arguments, as help shows them."""
        return "MODEL" if self.single else "MODELS..."


@dataclass(frozen=True, kw_only=True)
class RunFigure(FigureKind):
    """A figure of finished runs, drawn from what they recorded."""

    options: type[RunOptions]
    measure: Callable[[Any, Sequence[FinishedRun], TerminalReporter], FigureRecord]
    """Options, runs and reporter to the record."""

    @property
    def takes(self) -> str:
        """Positional arguments, as help shows them."""
        return "RUNS..."
