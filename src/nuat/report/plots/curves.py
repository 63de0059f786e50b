"""What the curves of accuracy share: a line with its 95 % band for each model."""

from collections.abc import Sequence
from typing import Any

from nuat.analysis.curves import Curve
from nuat.report.plots import style


def lines(axis: Any, curves: Sequence[tuple[Sequence[float], Curve]]) -> None:
    """Draw each model's accuracies in % over its places, with their intervals as a band, and a legend."""
    for i, (places, curve) in enumerate(curves):
        shade = style.colour(i)
        low, high = ([100 * interval[end] for interval in curve.intervals] for end in (0, 1))
        axis.fill_between(places, low, high, color=shade, alpha=0.18, linewidth=0)
        axis.plot(
            places,
            [100 * accuracy for accuracy in curve.accuracies],
            color=shade,
            marker=style.marker(i),
            markersize=3,
            label=style.shorten(curve.subject.name),
        )
    style.percent(axis, "accuracy")
    beside = len(curves) > 4
    axis.legend(loc="center left" if beside else "best", bbox_to_anchor=(1.01, 0.5) if beside else None)
