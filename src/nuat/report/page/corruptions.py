"""Results on corrupted images on the page: a column of the overview, and small multiples over the severity."""

from collections.abc import Mapping, Sequence

from nuat.evaluation.corruption_results import CorruptionResults
from nuat.figures.corruption_curves import MOST, CorruptionCurves, corruption_curves
from nuat.records.corruptions import best_of
from nuat.records.runs import RunRecord
from nuat.report.page.groups import Group, Method, mean_and_deviation
from nuat.report.page.table import Cell, Column, Value

HEAD = "Corruptions"


def curves_of_group(group: Group) -> CorruptionCurves | None:
    """Return the curves of the first seeds of the methods, at most ``MOST``; None: no method has results.

    Raises:
        InputError: the methods were not evaluated on the same corrupted images.
    """
    named = []
    for method in group.methods:
        kept = [found for run in method.runs if (found := best_of(run.corruptions)) is not None]
        named += [(method.label, found) for found in kept[:1]]
    return corruption_curves(named[:MOST]) if named else None


def corruption_column(methods: Sequence[Method]) -> tuple[Column, Mapping[int, Cell]] | None:
    """Return the column of the mean accuracies under all 15 corruptions, and the cell of each method by its id.

    Results that lack a corruption do not count: their mean compares with no other. None: there are no others.
    """
    found = {id(method): [one for run in method.runs if (one := _whole(run)) is not None] for method in methods}
    known = [one for several in found.values() for one in several]
    if not known:
        return None
    alike = len({(one.source, one.seed, one.images) for one in known}) == 1
    note = f"mean of 15, n {known[0].n:,}" if alike else "mean of 15, made in different ways"
    column = Column(head=HEAD, name="corruptions [%]", parts=("low [%]", "high [%]", "sd [%]", "n", "seeds"), note=note)
    return column, {key: _cell(several) for key, several in found.items()}


def _whole(run: RunRecord) -> CorruptionResults | None:
    return best_of({name: found for name, found in run.corruptions.items() if not found.missing})


def _cell(found: Sequence[CorruptionResults]) -> Cell:
    if not found:
        return Cell(title="not measured")
    mean, deviation = mean_and_deviation([100 * one.accuracy() for one in found])
    first = found[0]
    parts: dict[str, Value] = {"n": first.n, "seeds": len(found), "sd [%]": deviation}
    if deviation is None:
        low, high = (100 * end for end in first.interval())
        parts |= {"low [%]": low, "high [%]": high}
        note = f"{low:.1f}-{high:.1f}"
    else:
        note = f"± {deviation:.1f}"
    return Cell(value=mean, text=f"{mean:.1f}", note=note, title=f"{first.n:,} images, {first.source}", parts=parts)
