"""Results on corrupted images on the page: a column of the overview, and small multiples over the severity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nuat.evaluation.corruption_results import CorruptionResults
from nuat.figures.corruption_curves import MOST, CorruptionCurves, corruption_curves
from nuat.records.evaluations import Measurement
from nuat.records.runs import RunRecord
from nuat.report.page.groups import Group, Method, mean_and_deviation
from nuat.report.page.table import DASH, Cell, Column, Value, decimals


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
    named = [(method.label, found[0]) for method in group.methods if (found := shared.of[id(method)])]
    more = f" {len(named) - MOST} more methods are not drawn." if len(named) > MOST else ""
    return corruption_curves(named[:MOST]), shared.note + more


def corruption_column(shared: SharedCorruptions, methods: Sequence[Method]) -> tuple[Column, Mapping[int, Cell]]:
    """Return the column of the mean accuracies under all 15 corruptions, and the cell of each method by its id."""
    column = Column(
        head="Corruptions",
        name="corruptions [%]",
        parts=("low [%]", "high [%]", "sd [%]", "n", "seeds"),
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


def _cell(found: Sequence[CorruptionResults], runs: int) -> Cell:
    if not found:
        return Cell(title="not measured on these images")
    mean, deviation = mean_and_deviation([100 * one.accuracy() for one in found])
    first, digits = found[0], decimals(found[0].n)
    parts: dict[str, Value] = {"n": first.n, "seeds": len(found), "sd [%]": deviation}
    if deviation is None:
        low, high = (100 * end for end in first.interval())
        parts |= {"low [%]": low, "high [%]": high}
        note = spread = f"{low:.1f}{DASH}{high:.1f}"
    else:
        note, spread = f"± {deviation:.2f}", f"± {deviation:.{digits}f}"
    rest = f", {len(found)} of {runs} seeds" if len(found) < runs else ""
    return Cell(
        value=mean,
        text=f"{mean:.2f}",
        note=note + rest,
        title=f"75 verdicts on each of {first.n:,} images",
        parts=parts,
        printed=(f"{mean:.{digits}f}", spread + rest),
        comparable=(first.n,),
    )
