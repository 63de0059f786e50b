"""Which figures the page shows: of the runs themselves, and of the analyses' records that lie among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup

from nuat import analysis
from nuat.analysis import Record
from nuat.analysis.cost import Cost, CostPoint
from nuat.analysis.training_curves import TrainingCurves, curves_of
from nuat.errors import InputError
from nuat.report import plots
from nuat.report.page.drawing import inline
from nuat.report.page.groups import Group, attack_name, best
from nuat.report.page.runs import Run
from nuat.report.page.search import Found
from nuat.report.page.summary import strongest

MOST_CURVES = 12
"""Runs of a page up to which each has its training curves drawn: a drawing costs some tenths of a second and 40 kB."""
_MOST_COSTS = 6
"""Groups with a figure of costs, of at most ``_MOST_METHODS`` names."""
_MOST_METHODS = 24
_MOST_ANALYSES = 16

_CAPTIONS = {
    "loss-surface": "Loss surface",
    "confusion": "Confusion under single-step attacks",
    "nuclear-profile": "Nuclear norm of logit differences",
    "cost": "Robust accuracy against cost",
    "lambda-sweep": "Lambda sweep",
    "eps-curve": "Accuracy against eps",
    "steps-curve": "Accuracy against attack steps",
    "training": "Training curves",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the page."""

    title: str
    caption: str
    drawing: Markup | None
    """None: it is named, but not drawn; the caption says why."""


def of_page(found: Found, groups: Sequence[Group]) -> tuple[Picture, ...]:
    """Return the costs of each group, then the analyses' records, in the order of their files."""
    pictures = [_cost(one, f"cost-{i}") for i, one in enumerate(groups, 1) if _has_costs(one)][:_MOST_COSTS]
    paths = dict.fromkeys([*found.analyses, *(path for run in found.runs for path in run.analyses)])
    pictures += [_analysis(path, f"analysis-{i}", draw=i <= _MOST_ANALYSES) for i, path in enumerate(paths, 1)]
    return tuple(pictures)


def of_training(run: Run, label: str, prefix: str) -> Markup | None:
    """Return a run's training curves; none where no epoch is recorded."""
    curves = curves_of(run.metrics, label, run.seed)
    if not curves.epochs:
        return None
    return _draw(TrainingCurves(runs=(curves,)), prefix, f"training curves of {label}")


def _draw(record: Record, prefix: str, title: str) -> Markup:
    # names of runs and classes are not formulas, whatever dollars they have
    with mpl.rc_context({"text.parse_math": False}):
        return inline(plots.draw([record]), prefix, title)


def _has_costs(group: Group) -> bool:
    column = strongest(group)
    if column is None or len(group.methods) > _MOST_METHODS:
        return False
    return sum(bool(method.measured(column)) and any(run.end for run in method.runs) for method in group.methods) > 1


def _cost(group: Group, prefix: str) -> Picture:
    column = strongest(group)
    assert column is not None  # _has_costs
    part, attack = column
    points = []
    names: dict[str, int] = {}
    for method in group.methods:
        names[method.label] = names.get(method.label, 0) + 1
        # two rows of one label are two methods, not two seeds of one
        name = method.label if names[method.label] == 1 else f"{method.label} ({names[method.label]})"
        for run in method.runs:
            found, end = best(run, column), run.end
            points.append(
                CostPoint(
                    method=name,
                    seed=run.seed,
                    accuracy=found.percent / 100 if found else None,
                    n=found.n if found else None,
                    seconds=end["seconds"] if end else None,
                    passes=end["forwards"] + end["backwards"] if end else None,
                    hardware=run.environment.get("hardware"),
                )
            )
    record = Cost(attack=attack, images=part, eps=group.setting.eps, points=tuple(points))
    title = f"Robust accuracy against the cost of training: {group.setting.title}"
    caption = (
        f"Accuracy under {attack_name(attack)} against training time, and against the images that training passed "
        "forward and backward, which does not depend on the machine. To the upper left is better."
    )
    return Picture(title=title, caption=caption, drawing=_draw(record, prefix, title))


def _analysis(path: Path, prefix: str, *, draw: bool) -> Picture:
    """Return the figure of a record of ``nuat analyse``; one that cannot be read is named with the reason."""
    try:
        record = analysis.read(path)
        title = _CAPTIONS[record.kind]
        drawing = _draw(record, prefix, title) if draw else None
    except InputError as error:
        return Picture(title=path.name, caption=f"Not drawn: {error}", drawing=None)
    told = [f"{name} {getattr(record, name)}" for name in ("n", "seed", "hardware") if hasattr(record, name)]
    caption = (
        f"From {path}"
        + (f" ({', '.join(told)})" if told else "")
        + ("." if draw else "; not drawn: too many for a page.")
    )
    return Picture(title=title, caption=caption, drawing=drawing)
