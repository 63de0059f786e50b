"""Overview of models: how robust, to what, for which classes, and how well calibrated; a row for each method.

One table holds all methods of a campaign, data set and network, whatever they were trained for. There is none where it
would repeat the table of the results: one threat, and evaluations that kept no predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nuat.attacks.catalogue import WORST_CASE, attack_strength
from nuat.core.eps import threat_text
from nuat.core.intervals import wilson_interval
from nuat.core.threat import Norm
from nuat.evaluation.calibration import BINS
from nuat.evaluation.per_class import ClassResult, class_results, shown
from nuat.evaluation.results import Evaluation
from nuat.records.evaluations import Measurement
from nuat.records.runs import RunRecord
from nuat.report.page.corruptions import clean_of, corruption_column, shared_corruptions
from nuat.report.page.groups import Group, Method, best, mean_and_deviation
from nuat.report.page.summary import strongest
from nuat.report.page.table import DASH, Cell, Column, Table, TableRow, Value, accuracy_cell, remarks

Threat = tuple[Norm, float, str | None]
"""Norm and radius."""
_Make = Callable[[Method], Cell]


def overviews(groups: Sequence[Group]) -> tuple[Table, ...]:
    """Return the overviews of the groups, in their order; tuning on validation images has none."""
    together: dict[tuple[str | None, str, str], list[Group]] = {}
    for group in groups:
        if not group.tuning:
            place = (group.setting.campaign, group.setting.dataset, group.setting.network)
            together.setdefault(place, []).append(group)
    return tuple(table for found in together.values() if (table := _overview(found)) is not None)


def answered(run: RunRecord, attack: str | None) -> Evaluation | None:
    """Return a run's evaluation that kept its predictions under an attack, in its own ball; None: there is none."""
    found = None if attack is None else best(run, ("test", attack))
    evaluation = None if found is None else found.evaluation
    return None if evaluation is None or not evaluation.per_class(str(attack)) else evaluation


def strongest_answered(run: RunRecord) -> tuple[str, Evaluation] | None:
    """Return the strongest attack in a run's own ball whose evaluation kept its predictions, over the most images."""
    known = [found for found in run.measurements if found.part == "test" and found.threat == run.threat]
    # in a union the worst case comes first: an attack is in one of the balls alone
    union = {WORST_CASE} if run.also is not None else {}
    for found in sorted(known, key=lambda m: (m.attack in union, attack_strength(m.attack), m.n), reverse=True):
        if found.evaluation is not None and found.evaluation.per_class(found.attack):
            return found.attack, found.evaluation
    return None


def _overview(groups: Sequence[Group]) -> Table | None:
    methods = tuple(method for group in groups for method in group.methods)
    whole = Group(setting=replace(groups[0].setting, eps=None, also=None), methods=methods, table=None)
    known = {id(run): (*run.measurements, *_by_ball(run)) for run in whole.runs}
    there = {m.threat for found in known.values() for m in found if _attacked(m)}
    threats = sorted(there, key=lambda threat: (threat[2] is not None, *threat[:2], threat[2] or ""))
    ranked = {id(method): attack for group in groups for attack in [_attack(group)] for method in group.methods}
    detailed = any(answered(run, ranked[id(method)]) for method in methods for run in method.runs)
    corrupted = shared_corruptions(methods, whole=True)
    if len(threats) < 2 and not detailed and corrupted is None:
        return None
    made: list[tuple[Column, _Make]] = [
        (Column(head="Method", name="method", numeric=False), lambda method: _text(method.label))
    ]
    if len({(group.setting.norm, group.setting.eps, group.setting.also) for group in groups}) > 1:
        made.append((Column(head="Trained for", name="trained for", numeric=False), _trained_for))
    made.append(_accuracies(methods, "Clean", "clean", [(method, _clean(method)) for method in methods], ""))
    made += [column for threat in threats if (column := _under(whole, threat, known)) is not None]
    if corrupted is not None:
        of_corruptions, cells = corruption_column(corrupted, methods)
        made.append((of_corruptions, lambda method: cells[id(method)]))
    if detailed:
        made += [
            (
                Column(head="Worst class", name="worst class [%]", parts=("name", "low [%]", "high [%]", "n")),
                lambda method: _worst_class(method, ranked[id(method)]),
            ),
            (
                Column(head="Calibration error", sub="clean", name="calibration error clean [%]", parts=("sd [%]",)),
                lambda method: _calibration(method, ranked[id(method)], attacked=False),
            ),
            (
                Column(
                    head="Calibration error", sub="attacked", name="calibration error attacked [%]", parts=("sd [%]",)
                ),
                lambda method: _calibration(method, ranked[id(method)], attacked=True),
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
        first = corrupted.first
        notes.append(
            "Corruptions: mean over 15 common corruptions at 5 severities, without an attack; "
            f"{first.source}{'' if first.seed is None else f', seed {first.seed}'}.{corrupted.note}"
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


def _attack(group: Group) -> str | None:
    """Return the attack that a group's methods are ranked by, on test images."""
    column = strongest(group)
    return None if column is None or column[0] != "test" else column[1]


def _by_ball(run: RunRecord) -> tuple[Measurement, ...]:
    """Return a run's accuracies in each ball of the unions that it was attacked in."""
    return tuple(measured for file in run.evaluations for measured in file.measurements(by_ball=True))


def _under(whole: Group, threat: Threat, known: Mapping[int, tuple[Measurement, ...]]) -> tuple[Column, _Make] | None:
    """Return the column of one ball or union, with the strongest attack there; ``known`` by the identity of a run."""
    norm, eps, also = threat
    ball: dict[str, Any] = {"norm": norm, "eps": eps, "also": also}
    moved = {
        id(method): replace(
            method, runs=tuple(replace(run, measurements=known[id(run)], **ball) for run in method.runs)
        )
        for method in whole.methods
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
    norm, eps, also = method.runs[0].threat
    return Cell() if eps is None else _text(threat_text(norm, eps, also).replace("eps ", ""))


def _worst_class(method: Method, attack: str | None) -> Cell:
    """Return the class that withstands least, the images of all seeds together."""
    pooled: dict[str, tuple[int, int]] = {}
    for run in method.runs:
        evaluation = answered(run, attack)
        results: tuple[ClassResult, ...] = () if evaluation is None else class_results(evaluation, str(attack))
        for one in results:
            correct, n = pooled.get(one.name, (0, 0))
            pooled[one.name] = correct + one.correct, n + one.n
    if not pooled:
        return Cell(title="no predictions were kept")
    shares = {name: correct / n for name, (correct, n) in pooled.items()}
    name = min(shares, key=shares.__getitem__)
    (correct, n), alike = pooled[name], sum(share == shares[name] for share in shares.values()) - 1
    low, high = (100 * end for end in wilson_interval(correct, n))
    parts: dict[str, Value] = {"name": name, "low [%]": low, "high [%]": high, "n": n}
    title = f"{correct:,} of {n:,} images; 95 % interval {low:.1f} to {high:.1f} %"
    note = f"{shown(name)}{f' and {alike} more' if alike else ''}, {low:.1f}{DASH}{high:.1f}"
    return Cell(value=100 * correct / n, text=f"{100 * correct / n:.1f}", note=note, title=title, parts=parts)


def _calibration(method: Method, attack: str | None, *, attacked: bool) -> Cell:
    """Return the mean calibration error over the seeds, without an attack or under it."""
    name = str(attack) if attacked else "clean"
    evaluations = [found for run in method.runs if (found := answered(run, attack)) is not None]
    errors = [
        100 * error
        for one in evaluations
        if name in {attack, *(result.name for result in one.results)}
        and (error := one.calibration_error(name)) is not None
    ]
    if not errors:
        return Cell(title="not measured")
    mean, deviation = mean_and_deviation(errors)
    cooled = {one.temperature for one in evaluations} - {1.0}
    title = f"at temperature {', '.join(f'{t:.4g}' for t in sorted(cooled))}" if cooled else "at temperature 1"
    note = "" if deviation is None else f"± {deviation:.1f}"
    return Cell(value=mean, text=f"{mean:.1f}", note=note, title=title, parts={"sd [%]": deviation})
