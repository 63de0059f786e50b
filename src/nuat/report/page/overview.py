"""Overview of models: how robust, to what, for which classes, and how well calibrated; a row for each method.

One table holds all methods of a campaign, data set and network, whatever they were trained for. There is none where it
would repeat the table of the results: one threat, and evaluations that kept no predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nuat.attacks.catalogue import attack_name
from nuat.core.eps import threat_text
from nuat.core.threat import Norm
from nuat.evaluation.calibration import BINS
from nuat.evaluation.per_class import ClassResult
from nuat.records.evaluations import Measurement
from nuat.records.runs import RunRecord
from nuat.report.page.classes import SharedClasses, shared_classes, worst_class
from nuat.report.page.corruptions import clean_of, corruption_column, shared_corruptions
from nuat.report.page.groups import Group, Method, mean_and_deviation, remarks, whatever_the_ball
from nuat.report.page.summary import strongest
from nuat.report.page.table import Cell, Column, Table, TableRow, accuracy_cell

Threat = tuple[Norm, float, str | None]
"""Norm and radius."""
_Make = Callable[[Method], Cell]


def overviews(groups: Sequence[Group]) -> tuple[Table, ...]:
    """Return the overviews of the groups, in their order; tuning on validation images has none."""
    classes = {id(method): shared for group in groups for shared in [shared_classes(group)] for method in group.methods}
    tables = (_overview(whole, classes) for whole in whatever_the_ball(groups))
    return tuple(table for table in tables if table is not None)


def _overview(whole: Group, classes: Mapping[int, SharedClasses | None]) -> Table | None:
    """Return the overview of a group; ``classes`` by the identity of a method."""
    methods = whole.methods
    known = (m for run in whole.runs for m in (*run.measurements, *run.own_measurements, *_by_ball(run)))
    there = {m.threat for m in known if _attacked(m)}
    threats = sorted(there, key=lambda threat: (threat[2] is not None, *threat[:2], threat[2] or ""))
    detailed = any(classes[id(method)] for method in methods)
    corrupted = shared_corruptions(methods, whole=True)
    if len(threats) < 2 and not detailed and corrupted is None:
        return None
    made: list[tuple[Column, _Make]] = [
        (Column(head="Method", name="method", numeric=False), lambda method: _text(method.label))
    ]
    if len({method.runs[0].threat for method in methods}) > 1:
        made.append((Column(head="Trained for", name="trained for", numeric=False), _trained_for))
    made.append(_accuracies(methods, "Clean", "clean", [(method, _clean(method)) for method in methods], ""))
    made += [column for threat in threats if (column := _under(whole, threat)) is not None]
    if corrupted is not None:
        of_corruptions, cells = corruption_column(corrupted, methods)
        made.append((of_corruptions, lambda method: cells[id(method)]))
    if detailed:
        made += [
            (
                Column(
                    head="Worst class",
                    name="worst class [%]",
                    parts=("name", "low [%]", "high [%]", "n"),
                    note=_attacks(whole, classes),
                ),
                lambda method: worst_class(_results(method, classes[id(method)])),
            ),
            (
                Column(head="Calibration error", sub="clean", name="calibration error clean [%]", parts=("sd [%]",)),
                lambda method: _calibration(method, classes[id(method)], attacked=False),
            ),
            (
                Column(
                    head="Calibration error", sub="attacked", name="calibration error attacked [%]", parts=("sd [%]",)
                ),
                lambda method: _calibration(method, classes[id(method)], attacked=True),
            ),
        ]
    rows = tuple(
        TableRow(method=method, cells=tuple(make(method) for _, make in made), remarks=remarks(method))
        for method in methods
    )
    balls = " Each ball: the strongest attack that the methods share, on test images." if threats else ""
    unions = " A union's column: its worst case, image by image." if any(also for *_, also in threats) else ""
    notes = [f"In %.{balls}{unions}"]
    if corrupted is not None:
        notes.append(
            "Corruptions: mean over 15 common corruptions at 5 severities, without an attack; "
            f"{corrupted.source}.{corrupted.note}"
        )
    if detailed:
        notes.append(
            "Worst class: the one that withstands least in the ball of the training, with its 95 % interval; several "
            f"seeds together. Calibration error: expected, {BINS} bins (Guo et al. 2017); lower is better."
        )
    columns = tuple(column for column, _ in made)
    return Table(group=whole, columns=columns, rows=rows, notes=tuple(notes), name="overview")


def _attacked(found: Measurement) -> bool:
    return found.part == "test" and found.attack != "clean"


def _by_ball(run: RunRecord) -> tuple[Measurement, ...]:
    """Return a run's accuracies in each ball of the unions that it was attacked in."""
    return tuple(measured for file in run.evaluations for measured in file.measurements(by_ball=True))


def _under(whole: Group, threat: Threat) -> tuple[Column, _Make] | None:
    """Return the column of one ball or union, with the strongest attack there."""
    norm, eps, also = threat
    ball: dict[str, Any] = {"norm": norm, "eps": eps, "also": also}
    moved = {
        id(method): replace(method, runs=tuple(replace(run, **ball) for run in method.runs)) for method in whole.methods
    }
    setting = replace(whole.setting, **ball)
    column = strongest(replace(whole, setting=setting, methods=tuple(moved.values())))
    if column is None:
        return None
    found = [(method, moved[id(method)].measured(column)) for method in whole.methods]
    head = threat_text(norm, eps, also).replace("eps ", "")
    name = f"{norm} eps {eps:g}" + (f" and {also}" if also else "")
    return _accuracies(whole.methods, head, name, found, setting.attack_name(column[1]))


def _accuracies(
    methods: Sequence[Method], head: str, name: str, found: Sequence[tuple[Method, Sequence[Measurement]]], under: str
) -> tuple[Column, _Make]:
    """Return a column of accuracies; ``under`` stands below its head."""
    counts = {measured.n for _, several in found for measured in several}
    note = ", ".join(filter(None, (under, f"n {next(iter(counts)):,}" if len(counts) == 1 else "")))
    column = Column(head=head, name=f"{name} [%]", parts=("low [%]", "high [%]", "sd [%]", "n", "seeds"), note=note)
    cells = {id(method): accuracy_cell(several, len(method.runs), say_n=len(counts) > 1) for method, several in found}
    return column, lambda method: cells[id(method)]


def _clean(method: Method) -> tuple[Measurement, ...]:
    """Return each run's accuracy without an attack, over the most images; the ball does not matter.

    Where nothing was attacked, it is that of the results on corruptions.
    """
    found = [
        [m for m in run.measurements if (m.part, m.attack) == ("test", "clean")] or clean_of(run) for run in method.runs
    ]
    return tuple(max(several, key=lambda m: m.n) for several in found if several)


def _text(text: str) -> Cell:
    return Cell(value=text, text=text)


def _trained_for(method: Method) -> Cell:
    return _text(method.ball) if method.ball else Cell()


def _attacks(whole: Group, classes: Mapping[int, SharedClasses | None]) -> str:
    """Return the attacks that the classes are judged by, of methods for several balls there may be several."""
    found = [(method, shared) for method in whole.methods if (shared := classes[id(method)]) is not None]
    return " or ".join(
        dict.fromkeys(
            attack_name(shared.attack, None if (run := method.runs[0]).also is None else run.norm)
            for method, shared in found
        )
    )


def _results(method: Method, shared: SharedClasses | None) -> tuple[ClassResult, ...]:
    return () if shared is None else shared.results(method)


def _calibration(method: Method, shared: SharedClasses | None, *, attacked: bool) -> Cell:
    """Return the mean calibration error over the seeds, without an attack or under it."""
    evaluations = () if shared is None else shared.of[id(method)]
    name = shared.attack if shared is not None and attacked else "clean"
    errors = [
        100 * error
        for one in evaluations
        if (attacked or name in {result.name for result in one.results})
        and (error := one.calibration_error(name)) is not None
    ]
    if not errors:
        return Cell(title="not measured")
    mean, deviation = mean_and_deviation(errors)
    cooled = {one.temperature for one in evaluations} - {1.0}
    title = f"at temperature {', '.join(f'{t:.4g}' for t in sorted(cooled))}" if cooled else "at temperature 1"
    note = "" if deviation is None else f"± {deviation:.1f}"
    return Cell(value=mean, text=f"{mean:.1f}", note=note, title=title, parts={"sd [%]": deviation})
