"""Selection of the figures of a page: costs and training curves of its runs, and records of ``nuat analyse``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nuat.errors import InputError
from nuat.figures import calibration, class_accuracy
from nuat.figures.catalogue import FIGURES, draw, figure_of, read
from nuat.figures.corruption_curves import CorruptionCurves
from nuat.figures.cost import Cost, CostPoint
from nuat.figures.figure_record import FigureRecord
from nuat.figures.training_curves import TrainingCurves, curves_of
from nuat.hardware import hardware_text
from nuat.records.runs import RunRecord
from nuat.records.search import FoundRuns, shown
from nuat.report.page.classes import shared_classes
from nuat.report.page.corruptions import curves_of_group
from nuat.report.page.drawing import inline
from nuat.report.page.groups import Group, best, whatever_the_ball
from nuat.report.page.summary import strongest

MOST_CURVES = 12
"""Most runs of a page whose training curves are drawn. A drawing takes some tenths of a second and 40 kB."""
_MOST_COSTS = 6
"""Most groups with a figure of costs."""
_MOST_METHODS = 24
"""Most methods of a group with a figure of costs."""
_MOST_MODELS = 6
"""Most methods of a group whose classes and calibration are drawn: the first ones."""
_MOST_DETAILS = 3
"""Most groups whose classes and calibration are drawn."""
_MOST_RECORDS = 16
"""Most records that are drawn."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the page."""

    title: str
    caption: str
    drawing: Markup | None
    """None: the figure is named but not drawn; the caption says why."""
    has_colour_map: bool = False
    """Whether colours stand for values, so that a dark page must not invert them."""


def of_page(found: FoundRuns, groups: Sequence[Group]) -> tuple[Picture, ...]:
    """Return classes, calibration, corruptions and costs of each group, then the records of ``nuat analyse``."""
    pictures = [*_details(groups), *_corruptions(groups)]
    pictures += [_cost(one, f"cost-{i}") for i, one in enumerate(groups, 1) if _has_costs(one)][:_MOST_COSTS]
    paths = dict.fromkeys([*found.analyses, *(path for run in found.runs for path in run.analyses)])
    pictures += [
        _of_record(path, shown(path, found.base), f"analysis-{i}", drawn=i <= _MOST_RECORDS)
        for i, path in enumerate(paths, 1)
    ]
    return tuple(pictures)


def of_training(run: RunRecord, label: str, prefix: str) -> Markup | None:
    """Return the training curves of a run. None: no epoch is recorded."""
    curves = curves_of(run.metrics, label, run.seed, run.config)
    if not curves.epochs:
        return None
    return _draw(TrainingCurves(runs=(curves,)), prefix, f"training curves of {label}")


def _draw(record: FigureRecord, prefix: str, title: str) -> Markup:
    return inline(draw([record]), prefix, title)


def _has_costs(group: Group) -> bool:
    column = strongest(group)
    if column is None or len(group.methods) > _MOST_METHODS:
        return False
    return sum(bool(method.measured(column)) and any(run.end for run in method.runs) for method in group.methods) > 1


def _details(groups: Sequence[Group]) -> list[Picture]:
    """Return the classes and the calibration of each group whose evaluations kept their predictions."""
    pictures: list[Picture] = []
    for i, group in enumerate(groups, 1):
        shared = shared_classes(group)
        if shared is None or len(pictures) == 2 * _MOST_DETAILS:
            continue
        kept = [(method.label, found) for method in group.methods if (found := shared.of[id(method)])]
        named = [(label, found[0]) for label, found in kept]
        seeds = " Of several seeds the first." if any(len(found) > 1 for _, found in kept) else ""
        left = len(named) - _MOST_MODELS
        more = seeds + (f" {left} more methods are not drawn." if left > 0 else "")
        for make, kind in ((class_accuracy, class_accuracy.FIGURE), (calibration, calibration.FIGURE)):
            title = f"{kind.title}: {group.setting.heading}"
            caption = f"{kind.caption} Attack: {group.setting.attack_name(shared.attack)}.{more}"
            record = make.of_evaluations(named[:_MOST_MODELS], shared.attack)
            drawing = _draw(record, f"{kind.name}-{i}", title)
            pictures.append(Picture(title=title, caption=caption, drawing=drawing, has_colour_map=kind.has_colour_map))
    return pictures


def _corruptions(groups: Sequence[Group]) -> list[Picture]:
    """Return the corruptions of each data set and network; methods whose images do not compare are named."""
    kind = FIGURES[CorruptionCurves.kind]
    pictures: list[Picture] = []
    for i, whole in enumerate(whatever_the_ball(groups), 1):
        found = curves_of_group(whole)
        if found is not None:
            title = f"{kind.title}: {whole.setting.heading}"
            drawing = _draw(found[0], f"{kind.name}-{i}", title)
            pictures.append(Picture(title=title, caption=kind.caption + found[1], drawing=drawing))
    return pictures[:_MOST_DETAILS]


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
    setting = group.setting
    record = Cost(
        attack=attack, images=part, eps=setting.eps, norm=setting.norm, also=setting.also, points=tuple(points)
    )
    title = f"{FIGURES[record.kind].title}: {group.setting.heading}"
    caption = f"{FIGURES[record.kind].caption} Attack: {group.setting.attack_name(attack)}."
    return Picture(title=title, caption=caption, drawing=_draw(record, prefix, title))


def _of_record(path: Path, called: str, prefix: str, *, drawn: bool) -> Picture:
    """Return the figure of a record of ``nuat analyse``. One that cannot be read is named with the reason."""
    try:
        record = read(path)
        figure = figure_of(record)
        drawing = _draw(record, prefix, figure.title) if drawn else None
    except InputError as error:
        return Picture(title=path.name, caption=f"Not drawn: {str(error).replace(str(path), called)}", drawing=None)
    told = [
        f"{name} {hardware_text(getattr(record, name))}" for name in ("n", "seed", "hardware") if hasattr(record, name)
    ]
    source = f"From {called}" + (f" ({', '.join(told)})" if told else "")
    end = "." if drawn else "; not drawn: too many for a page."
    return Picture(
        title=figure.title,
        caption=f"{figure.caption} {source}{end}",
        drawing=drawing,
        has_colour_map=figure.has_colour_map,
    )
