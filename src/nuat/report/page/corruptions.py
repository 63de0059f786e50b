"""Results on corrupted images: a column of the overview, a table of each corruption, and small multiples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nuat.data.corruptions import SEVERITIES
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.figures.corruption_curves import MOST, CorruptionCurves, corruption_curves
from nuat.records.evaluations import Measurement
from nuat.records.runs import RunRecord
from nuat.report.page.groups import Group, Method, mean_and_deviation, whatever_the_ball
from nuat.report.page.table import DASH, Cell, Column, Table, TableRow, Value, blocks, decimals, seeds_note

_MEAN = "mean"
_PARTS = ("low [%]", "high [%]", "sd [%]", "n", "seeds")


@dataclass(frozen=True, kw_only=True)
class SharedCorruptions:
    """Results of methods on the same corrupted images."""

    of: Mapping[int, tuple[CorruptionResults, ...]]
    """Results of each method by its id, one a run; empty: the method has none on these images."""
    left_out: tuple[str, ...]
    """Methods that have results, but on other images or other corruptions alone."""

    @property
    def first(self) -> CorruptionResults:
        """Results that stand for all: of the same images, source and seed."""
        return next(found[0] for found in self.of.values() if found)

    @property
    def source(self) -> str:
        """Where the images came from, with the seed of their draws."""
        return f"{self.first.source}{'' if self.first.seed is None else f', seed {self.first.seed}'}"

    @property
    def note(self) -> str:
        """Sentence on the methods that are left out; empty: none is."""
        return f" Left out, of other images or other corruptions: {', '.join(self.left_out)}." if self.left_out else ""


def shared_corruptions(methods: Sequence[Method], *, whole: bool) -> SharedCorruptions | None:
    """Return the results on those corrupted images that the most methods have, then the most runs; None: no results.

    Accuracies on images that were made, read from files, or drawn in another way do not compare. Of equally many, those
    of the most corruptions count, then of the most images.

    Args:
        methods: rows of a table, or models of a figure.
        whole: whether only results on all 15 corruptions count; the mean of fewer compares with no other.
    """
    runs = [(method, _by_images(run, whole=whole)) for method in methods for run in method.runs]
    every = {key: one for _, found in runs for key, one in found.items()}
    if not every:
        return None

    def rank(key: tuple[object, ...]) -> tuple[int, ...]:
        has = [id(method) for method, found in runs if key in found]
        return len(set(has)), len(has), len(every[key].correct), every[key].n

    best = max(every, key=rank)
    of = {
        id(method): tuple(found[best] for owner, found in runs if owner is method and best in found)
        for method in methods
    }
    others = [m.label for m in methods if not of[id(m)] and any(run.corruptions for run in m.runs)]
    return SharedCorruptions(of=of, left_out=tuple(others))


def _by_images(run: RunRecord, *, whole: bool) -> dict[tuple[object, ...], CorruptionResults]:
    """Return a run's results by what must be the same to compare; of several alike, the last file."""
    known = [one for _, one in sorted(run.corruptions.items()) if not (whole and one.missing)]
    return {(one.source, one.seed, one.images, tuple(one.correct)): one for one in known}


def curves_of_group(group: Group) -> tuple[CorruptionCurves, str] | None:
    """Return the curves of the first seeds of the methods, at most ``MOST``, and a note on the methods left out.

    None: no method has results.
    """
    shared = shared_corruptions(group.methods, whole=False)
    if shared is None:
        return None
    balls = _balls(group)
    kept = [(method, found) for method in group.methods if (found := shared.of[id(method)])]
    named = [(", ".join(filter(None, (m.label, balls[id(m)]))), found[0]) for m, found in kept]
    seeds = " Of several seeds the first." if any(len(found) > 1 for _, found in kept) else ""
    more = f" {len(named) - MOST} more methods are not drawn." if len(named) > MOST else ""
    return corruption_curves(named[:MOST]), shared.note + seeds + more


def corruption_tables(groups: Sequence[Group]) -> tuple[Table, ...]:
    """Return the corruptions as tables: a row for each, and the methods side by side, whatever their balls."""
    return tuple(table for whole in whatever_the_ball(groups) for table in _tables(whole))


def _tables(whole: Group) -> list[Table]:
    shared = shared_corruptions(whole.methods, whole=False)
    if shared is None:
        return []
    parts = blocks([method for method in whole.methods if shared.of[id(method)]])
    return [
        _table(whole, shared, methods, f" ({i} of {len(parts)})" if len(parts) > 1 else "")
        for i, methods in enumerate(parts, 1)
    ]


def _table(whole: Group, shared: SharedCorruptions, methods: Sequence[Method], part: str) -> Table:
    first, balls = shared.first, _balls(whole)
    kinds = {name: category for category, names in first.categories.items() for name in names}
    columns = [Column(head="Corruption", name="corruption", numeric=False), Column(head="Kind", name="", numeric=False)]
    columns += [
        Column(
            head=method.label, sub=balls[id(method)], name="corruptions [%]", model=method.label,
            parts=(*_PARTS, *map(_severity, SEVERITIES)), note=seeds_note(method, shared.of[id(method)]),
        )
        for method in methods
    ]  # fmt: skip
    made = {
        name: [_cell(found, len(found), name) for found in (shared.of[id(method)] for method in methods)]
        for name in ("clean", *first.correct, _MEAN)
    }
    lowest = [min(float(made[name][place].value or 0) for name in first.correct) for place in range(len(methods))]
    rows = []
    for name, cells in made.items():
        called = {"clean": "no corruption", _MEAN: first.mean_name}.get(name, name.replace("_", " "))
        marked = [
            replace(cell, marked=name in kinds and cell.value == least, comparable=None)
            for cell, least in zip(cells, lowest, strict=True)
        ]
        head = [Cell(value=name, text=called), Cell(value=kinds.get(name), text=kinds.get(name, ""))]
        rows.append(TableRow(cells=(*head, *marked)))
    several = any(len(shared.of[id(method)]) > 1 for method in methods)
    spread = "the standard deviation over the seeds, or the " if several else "the "
    notes = (
        f"In %, the mean of 5 severities, without an attack, with {spread}95 % interval over images. "
        f"Bold: the worst corruption of each method. {first.n:,} images; {shared.source}.{shared.note}",
    )
    return Table(
        group=whole, columns=tuple(columns), rows=tuple(rows), notes=notes, name="corruptions",
        title=f"accuracy under each corruption{part}",
    )  # fmt: skip


def _severity(severity: int) -> str:
    return f"severity {severity} [%]"


def _balls(whole: Group) -> dict[int, str]:
    """Return the ball that each method was trained for by its id; empty texts if there is one."""
    several = len({method.runs[0].threat for method in whole.methods}) > 1
    return {id(method): method.ball if several else "" for method in whole.methods}


def corruption_column(shared: SharedCorruptions, methods: Sequence[Method]) -> tuple[Column, Mapping[int, Cell]]:
    """Return the column of the mean accuracies under all 15 corruptions, and the cell of each method by its id."""
    column = Column(
        head="Corruptions",
        name="corruptions [%]",
        parts=_PARTS,
        note=f"mean of 15, n {shared.first.n:,}",
    )
    return column, {id(method): _cell(shared.of[id(method)], len(method.runs)) for method in methods}


def clean_of(run: RunRecord) -> tuple[Measurement, ...]:
    """Return the accuracies without corruption in a run's results on corrupted images."""
    return tuple(
        Measurement(
            attack="clean", attacks=("clean",), correct=int(one.clean.sum()), n=one.n, part="test", eps=0.0,
            norm="Linf", file=file, evaluation=None,
        )
        for file, one in run.corruptions.items()
    )  # fmt: skip


def _cell(found: Sequence[CorruptionResults], runs: int, name: str = _MEAN) -> Cell:
    """Return the cell of the accuracies under a corruption, one for each of the ``runs`` that has it."""
    if not found:
        return Cell(title="not measured on these images")
    mean, deviation = mean_and_deviation([100 * one.accuracy(name) for one in found])
    first, digits = found[0], decimals(found[0].n)
    parts: dict[str, Value] = {"n": first.n, "seeds": len(found), "sd [%]": deviation}
    if deviation is None:
        low, high = (100 * end for end in first.interval(name))
        parts |= {"low [%]": low, "high [%]": high}
        note = spread = f"{low:.1f}{DASH}{high:.1f}"
    else:
        note, spread = f"± {deviation:.2f}", f"± {deviation:.{digits}f}"
    rest = f", {len(found)} of {runs} seeds" if len(found) < runs else ""
    if name != "clean":
        at = {severity: [100 * one.accuracy(name, severity) for one in found] for severity in SEVERITIES}
        parts |= {_severity(severity): mean_and_deviation(several)[0] for severity, several in at.items()}
    return Cell(
        value=mean,
        text=f"{mean:.2f}",
        note=note + rest,
        title=f"{len(first.verdicts(name))} verdicts on each of {first.n:,} images",
        parts=parts,
        printed=(f"{mean:.{digits}f}", spread + rest),
        comparable=(first.n,),
    )
