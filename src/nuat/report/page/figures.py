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
from nuat.report.page.groups import Group, best
from nuat.report.page.measurements import hardware_text
from nuat.report.page.runs import Run
from nuat.report.page.search import Found, shown
from nuat.report.page.summary import strongest, under

MOST_CURVES = 12
"""Runs of a page up to which each has its training curves drawn: a drawing costs some tenths of a second and 40 kB."""
_MOST_COSTS = 6
"""Groups with a figure of costs, of at most ``_MOST_METHODS`` names."""
_MOST_METHODS = 24
_MOST_ANALYSES = 16

_SAID = {
    "loss-surface": (
        "Loss surface",
        "The loss around images, along the sign of its gradient and along a random direction across it: smooth is "
        "good, hills and folds hide adversarial images from attacks of few steps.",
    ),
    "confusion": (
        "Confusion under single-step attacks",
        "How often images of a class (row) are taken for each class (column) under attacks that maximise two norms: "
        "for the model a full diagonal is good, and the attack that empties it more is the stronger one.",
    ),
    "nuclear-profile": (
        "Nuclear norm of logit differences",
        "How far an attack moves the logits of a batch, for examples that withstood it and for those that did not: "
        "small is smooth, and a robust model keeps both small.",
    ),
    "cost": (
        "Robust accuracy against cost",
        "Accuracy under attack against what training cost: to the upper left is better.",
    ),
    "lambda-sweep": (
        "Lambda sweep",
        "Accuracy with and without an attack over the weight of the regulariser: high is good, and a broad top says "
        "that the choice matters little.",
    ),
    "eps-curve": (
        "Accuracy against eps",
        "Accuracy under attacks of growing radius: higher is better, and a curve that does not fall to 0 at large "
        "radii says that the attack fails, not that the model withstands.",
    ),
    "steps-curve": (
        "Accuracy against attack steps",
        "Accuracy under attacks of growing length: higher is better, and a curve that still falls at its end says "
        "that the attack is too short.",
    ),
    "training": (
        "Training curves",
        "Losses, validation accuracies and schedules over the epochs: accuracy under PGD that drops while that under "
        "FGSM rises is catastrophic overfitting.",
    ),
}
"""Title of each kind of analysis, and what is drawn and which way is good; a kind without is named after itself."""


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
    pictures += [
        _analysis(path, shown(path, found.base), f"analysis-{i}", draw=i <= _MOST_ANALYSES)
        for i, path in enumerate(paths, 1)
    ]
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
        f"{under(attack)}, accuracy against training time, and against the images that training passed "
        "forward and backward, which does not depend on the machine. To the upper left is better."
    )
    return Picture(title=title, caption=caption, drawing=_draw(record, prefix, title))


def _analysis(path: Path, called: str, prefix: str, *, draw: bool) -> Picture:
    """Return the figure of a record of ``nuat analyse``; one that cannot be read is named with the reason."""
    try:
        record = analysis.read(path)
        title, said = _SAID.get(record.kind, (record.kind.replace("-", " ").capitalize(), ""))
        drawing = _draw(record, prefix, title) if draw else None
    except InputError as error:
        return Picture(title=path.name, caption=f"Not drawn: {str(error).replace(str(path), called)}", drawing=None)
    told = [
        f"{name} {hardware_text(getattr(record, name))}" for name in ("n", "seed", "hardware") if hasattr(record, name)
    ]
    caption = (
        f"{said} From {called}".lstrip()
        + (f" ({', '.join(told)})" if told else "")
        + ("." if draw else "; not drawn: too many for a page.")
    )
    return Picture(title=title, caption=caption, drawing=drawing)
