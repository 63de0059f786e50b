"""Table of a group's results, one row per method, from which every format is written. "–": not measured.

Several seeds: mean and standard deviation (n - 1) over them. One seed: the accuracy with its 95 % interval over images.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from nuat import paper
from nuat.records.evaluations import Measurement
from nuat.report.page.attack_settings import settings_notes
from nuat.report.page.changes import beside, changes
from nuat.report.page.groups import AccuracyKey, Group, Method, mean_and_deviation, remarks, row_recipe

DASH = "\u2013"
"""Joins the ends of an interval. On its own: not measured."""
MISSING = DASH
Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place in the table."""

    value: Value = None
    """Value for sorting and for machine-readable formats. None: not measured."""
    text: str = MISSING
    """Text on the page."""
    note: str = ""
    """A second, smaller line: the interval, or the deviation over seeds."""
    title: str = ""
    """Tooltip."""
    parts: Mapping[str, Value] = field(default_factory=dict)
    """Further numbers for machine-readable formats, keyed by the suffix of the column's name."""
    printed: tuple[str, str] | None = None
    """Text and note with the decimals that the number of images carries, for print. None: as on the page."""
    comparable: tuple[object, ...] | None = None
    """Accuracies of a column with the same value here can be compared: their number of images, their attacks, and the
    settings of these."""
    marked: bool = False
    """Whether it stands out, in bold: the worst of a method."""

    @property
    def missing(self) -> bool:
        """Whether nothing was measured."""
        return self.value is None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head."""

    head: str
    """Name. Neighbouring columns of the same name share one head."""
    sub: str = ""
    """Second line of the head: ours or paper."""
    name: str
    """Name in machine-readable formats, with the unit. Empty: not in them."""
    parts: tuple[str, ...] = ()
    """Further columns in machine-readable formats."""
    note: str = ""
    """Line under the head: the number of images."""
    numeric: bool = True
    model: str = ""
    """Method that the column is about, where the rows are no methods."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row: of a method, a class or a corruption."""

    cells: tuple[Cell, ...]
    method: Method | None = None
    """Its method. None: it is of something else."""
    remarks: tuple[str, ...] = ()
    """Warnings about the method: a run failed, has not ended, raised an alarm, or met black-box attacks alone."""
    left_out: bool = False
    """Whether CSV alone has it: people are shown the others."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A group's table."""

    group: Group
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    """Sentences below the table."""
    name: str = ""
    """Part of the group that the table shows. Empty: the results under attack."""
    title: str = ""
    """The same in words. Empty: the name says it."""

    @property
    def heading(self) -> str:
        """Title of the table."""
        setting = self.group.setting
        return f"{setting.heading}: {self.title or self.name}" if self.name else setting.heading

    @property
    def shown(self) -> tuple[TableRow, ...]:
        """The rows for people."""
        return tuple(row for row in self.rows if not row.left_out)

    @property
    def told(self) -> tuple[tuple[str, str], ...]:
        """Methods with their remarks."""
        return tuple((row.method.label, text) for row in self.rows if row.method is not None for text in row.remarks)

    @property
    def changes(self) -> tuple[tuple[str, str], ...]:
        """The methods that differ from their recipes, each with the settings."""
        methods = () if self.name else self.group.methods  # once, under the results
        found = ((method.label, "; ".join(map(str, changes(method.runs[0])))) for method in methods)
        return tuple((label, text) for label, text in found if text)


_Make = Callable[[Method], Cell]
_Model = TypeVar("_Model")
_MOST_MODELS = 4
"""Most models side by side in a table. Of more there are several tables."""


def tabulate(group: Group) -> Table:
    """Return the table of a group."""
    made: list[tuple[Column, _Make]] = [
        (Column(head="Method", name="method", numeric=False), lambda method: _text(method.label)),
        (Column(head="Seeds", name="seeds", parts=("list",)), _seeds),
    ]
    if group.table is not None:
        made += _schedule(group)
    for measured in group.columns:
        made += _accuracies(group, measured)
    if group.table is None or not any(column.head == "Epochs" for column, _ in made):
        made.append((Column(head="Epochs", name="epochs"), _epochs))
    made += [
        (Column(head="Training", name="training [s]", note="s"), lambda method: _cost(method, "seconds", 1.0, 0)),
        (
            Column(head="Forward", name="forward [images]", note="M images"),
            lambda method: _cost(method, "forwards", 1e6, 2),
        ),
        (
            Column(head="Backward", name="backward [images]", note="M images"),
            lambda method: _cost(method, "backwards", 1e6, 2),
        ),
    ]
    if any(changes(method.runs[0]) for method in group.methods):
        made.append((Column(head="Changes", name="recipe changes", parts=("list",), note="to the recipe"), _changes))
    rows = tuple(
        TableRow(method=method, cells=tuple(make(method) for _, make in made), remarks=remarks(method))
        for method in group.methods
    )
    return Table(group=group, columns=tuple(column for column, _ in made), rows=rows, notes=_notes(group))


def blocks(models: Sequence[_Model]) -> tuple[Sequence[_Model], ...]:
    """Return models in parts of about equal size that fit side by side into a table."""
    parts = math.ceil(len(models) / _MOST_MODELS)
    ends = [len(models) * i // parts for i in range(parts + 1)]
    return tuple(models[begin:end] for begin, end in itertools.pairwise(ends))


def seeds_note(method: Method, found: Sequence[object]) -> str:
    """Return the note on a method's column that some of its seeds are not in; empty: all are."""
    return f"{len(found)} of {len(method.runs)} seeds" if len(found) < len(method.runs) else ""


def decimals(n: int) -> int:
    """Return the decimals that an accuracy in % over ``n`` images carries: the fewest that tell k from k + 1 of n.

    100 images carry none, 200 and 1,000 one, 10,000 two; there are never more.
    """
    return min(2, max(0, math.ceil(math.log10(n / 100))))


def interval_text(measured: Measurement) -> str:
    """Return the 95 % interval of an accuracy, in %, as people read it."""
    low, high = measured.interval
    return f"{low:.1f}{DASH}{high:.1f}"


def _text(text: str) -> Cell:
    return Cell(value=text, text=text)


def _seeds(method: Method) -> Cell:
    known = [str(run.seed) for run in method.runs if run.seed is not None]
    if not known:
        return Cell()
    return Cell(value=len(known), text=", ".join(known), parts={"list": " ".join(known)})


def _schedule(group: Group) -> list[tuple[Column, _Make]]:
    """Return the columns that some tables of the paper have before the accuracies."""
    quantities = {quantity for row in paper.table(str(group.table)) for quantity in row.values}
    made: list[tuple[Column, _Make]] = []
    if "# AT steps" in quantities:
        made.append(
            (
                Column(head="AT steps", name="paper AT steps", sub="paper"),
                lambda method: _paper(group, method, "# AT steps", 0),
            )
        )
    if "epochs" in quantities:
        made += [
            (Column(head="Epochs", name="epochs", sub="ours"), _epochs),
            (
                Column(head="Epochs", name="paper epochs", sub="paper"),
                lambda method: _paper(group, method, "epochs", 0),
            ),
        ]
    return made


def _accuracies(group: Group, measured: AccuracyKey) -> list[tuple[Column, _Make]]:
    part, attack = measured
    counts = {found.n for method in group.methods for found in method.measured(measured)}
    same = len(counts) == 1
    head = group.setting.attack_name(attack)
    under = [f"n {next(iter(counts)):,}"] if same else []
    under += [] if part == "test" else [part]
    name = attack + ("" if part == "test" else f" {part}")
    paired = attack in group.paper_quantities and part == "test"
    ours = Column(
        head=head,
        sub="ours" if paired else "",
        name=f"{name} [%]",
        parts=("low [%]", "high [%]", "sd [%]", "n", "seeds"),
        note=" ".join(under),
    )
    made: list[tuple[Column, _Make]] = [
        (ours, lambda method: accuracy_cell(method.measured(measured), len(method.runs), say_n=not same))
    ]
    if paired:
        column = Column(head=head, sub="paper", name=f"paper {name} [%]")
        made.append((column, lambda method: _paper(group, method, attack, 2)))
    return made


def accuracy_cell(found: Sequence[Measurement], runs: int, *, say_n: bool) -> Cell:
    """Return the cell of a method's accuracies, one for each of its ``runs`` that has it.

    ``say_n`` adds the number of images.
    """
    if not found:
        return Cell(title="not measured")
    mean, deviation = mean_and_deviation([measurement.percent for measurement in found])
    counts = sorted({measurement.n for measurement in found})
    n = counts[0] if len(counts) == 1 else None
    parts: dict[str, Value] = {"n": n, "seeds": len(found), "sd [%]": deviation}
    over = "" if len(found[0].attacks) == 1 else f"; worst case of {found[0].over}"
    if deviation is None:
        low, high = found[0].interval
        parts |= {"low [%]": low, "high [%]": high}
        note = interval_text(found[0])
        title = f"{found[0].correct:,} of {found[0].n:,} {found[0].part} images; 95 % interval {note} %{over}"
    else:
        note = f"± {deviation:.2f}"
        title = f"mean and standard deviation of {len(found)} seeds{over}"
    rest = f", {len(found)} of {runs} seeds" if len(found) < runs else ""
    if say_n:
        rest += f", n {', '.join(f'{count:,}' for count in counts)}"
    digits = decimals(counts[0])
    spread = note if deviation is None else f"± {deviation:.{digits}f}"
    return Cell(
        value=mean,
        text=f"{mean:.2f}",
        note=note + rest,
        title=title,
        parts=parts,
        printed=(f"{mean:.{digits}f}", spread + rest),
        comparable=None if n is None else (n, *sorted(found[0].attacks), *sorted({one.settings for one in found})),
    )


def _paper(group: Group, method: Method, quantity: str, digits: int) -> Cell:
    row = group.theirs(method)
    if row is None or quantity not in row.values:
        return Cell(title="the paper has no number")
    value = row.values[quantity]
    place = next(
        number.place
        for number in paper.of_table(str(group.table))
        if number.recipe == row.recipe and number.quantity == quantity
    )
    # the paper's own digits, as text: 54.10, not 54.1
    return Cell(value=value, text=f"{value:.{digits}f}", title=place)


def _epochs(method: Method) -> Cell:
    known = [run.end["epochs"] for run in method.runs if run.end]
    return Cell(value=known[0], text=str(known[0])) if known else Cell(title="the training has not ended")


def _cost(method: Method, name: str, unit: float, digits: int) -> Cell:
    """Return the mean over the runs that were trained to the end."""
    known = [run.end[name] for run in method.runs if run.end]
    if not known:
        return Cell(title="the training has not ended")
    mean, deviation = mean_and_deviation(known)
    title = "" if deviation is None else f"mean of {len(known)} seeds, standard deviation {deviation / unit:.{digits}f}"
    value = int(mean) if name != "seconds" and mean.is_integer() else mean
    return Cell(value=value, text=f"{mean / unit:,.{digits}f}", title=title)


def _changes(method: Method) -> Cell:
    found = "; ".join(map(str, changes(method.runs[0])))
    count = len(changes(method.runs[0]))
    return Cell(value=count, text=str(count), title=found or "trained as its recipe says", parts={"list": found})


def _notes(group: Group) -> tuple[str, ...]:
    runs = group.runs
    several = any(len(method.runs) > 1 for method in group.methods)
    notes = [
        "Accuracy in %. "
        + ("Several seeds: mean ± standard deviation over seeds. " if several else "")
        + "One seed: with the 95 % interval over images. Forward and Backward count images in training. "
        f"{MISSING}: not measured."
    ]
    if group.table is not None:
        notes.append(
            f"Columns as in Table {group.table} of the paper (Sriramanan et al., NeurIPS 2021). Its numbers come "
            "from its own training runs."
        )
        for run in (method.runs[0] for method in group.methods if group.theirs(method)):
            if row_recipe(run) != run.recipe:
                count = len(beside(run, row_recipe(run)))
                notes.append(
                    f"{run.recipe} is a shorter training than the paper's row: its settings differ in {count} "
                    f"from those of {row_recipe(run)}, the recipe of that row."
                )
    notes += settings_notes(group)
    machines = _listed([str(run.environment.get("hardware", "")) for run in runs])
    if machines:
        notes.append(f"Training ran on: {machines}. Seconds compare within one machine only, passes everywhere.")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(name for name in names if name))
