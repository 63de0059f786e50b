"""A run's validation accuracies as a line of a few pixels: enough to see whether it rose, fell or collapsed."""

from collections.abc import Sequence
from dataclasses import dataclass

from nuat.attacks.catalogue import attack_name
from nuat.records.runs import RunRecord

WIDTH, HEIGHT = 132, 30
"""Size of the drawing [pixels]; 0 % at the bottom, 100 % at the top."""
_MARGIN = 2
_MOST = 60
"""Points of a line; more epochs are thinned to these."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One accuracy over the epochs."""

    name: str
    """clean or pgd: how the style sheet calls it."""
    label: str
    """clean, or the attack of the validation."""
    paths: tuple[str, ...]
    """Points "x,y x,y ..." of each stretch of epochs that were measured."""
    last: float
    """The last value, in %."""


def lines(run: RunRecord) -> tuple[Line, ...]:
    """Return the lines of a run; empty if fewer than two epochs were validated."""
    found = []
    for name in ("clean", "pgd"):
        values = [(epoch.number, getattr(epoch, name)) for epoch in run.epochs]
        known = [value for _, value in values if value is not None]
        if len(known) > 1:
            label = attack_name(run.validate_attack) if name == "pgd" else name
            found.append(Line(name=name, label=label, paths=_paths(values), last=100 * known[-1]))
    return tuple(found)


def _paths(values: Sequence[tuple[int, float | None]]) -> tuple[str, ...]:
    every = -(-len(values) // _MOST)
    # the last epoch is always one of the points
    kept = [pair for place, pair in enumerate(values) if (len(values) - 1 - place) % every == 0]
    first, last = kept[0][0], kept[-1][0]
    scale = (WIDTH - 2 * _MARGIN) / max(1, last - first)
    stretches: list[list[str]] = [[]]
    for epoch, value in kept:
        if value is None:
            stretches.append([])
            continue
        x, y = _MARGIN + (epoch - first) * scale, HEIGHT - _MARGIN - value * (HEIGHT - 2 * _MARGIN)
        stretches[-1].append(f"{x:.1f},{y:.1f}")
    return tuple(" ".join(points) for points in stretches if points)
