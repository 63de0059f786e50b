"""Tables that several analyses print."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from nuat.analysis.curves import Curve


def curve_table(head: str, places: Sequence[str], curves: Sequence[Curve]) -> Table:
    """Return the accuracies in % of each model, a row a point."""
    table = Table(title="Accuracy in % under PGD, with 95 % intervals", title_justify="left")
    table.add_column(head, justify="right")
    for curve in curves:
        table.add_column(escape(curve.subject.name), justify="right")
    for i, place in enumerate(places):
        cells = []
        for curve in curves:
            low, high = curve.intervals[i]
            cells.append(f"{100 * curve.accuracies[i]:.1f} ({100 * low:.1f}-{100 * high:.1f})")
        table.add_row(place, *cells)
    return table
