"""Classes of the methods of a group under the strongest attack whose predictions were kept.

From here come the worst class and the calibration of the overview, the figures of the page, and a table of all classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from nuat.attacks.catalogue import WORST_CASE
from nuat.core.intervals import wilson_interval
from nuat.evaluation.per_class import MOST_ROWS, ClassResult, class_results, pooled, shown, worst_first
from nuat.evaluation.results import Evaluation
from nuat.report.page.groups import Group, Method, best
from nuat.report.page.summary import strongest
from nuat.report.page.table import DASH, Cell, Column, Table, TableRow, Value, blocks, seeds_note

_PARTS = ("low [%]", "high [%]", "n")


@dataclass(frozen=True, kw_only=True)
class SharedClasses:
    """Evaluations of the methods of a group under one attack, with their predictions."""

    attack: str
    of: Mapping[int, tuple[Evaluation, ...]]
    """Evaluations of each method by its id, one a run; empty: the method has none."""

    def results(self, method: Method) -> tuple[ClassResult, ...]:
        """Return the classes of a method, the images of all seeds together; empty: no evaluation."""
        return pooled([class_results(found, self.attack) for found in self.of[id(method)]])


def shared_classes(group: Group) -> SharedClasses | None:
    """Return the evaluations under the strongest attack that the methods share, on test images, in their own ball.

    None: no evaluation kept its predictions under an attack.
    """
    kept = {
        id(method): replace(method, runs=tuple(
            replace(run, evaluations=(), measurements=tuple(
                found for found in run.own_measurements
                if found.part == "test" and found.evaluation is not None
                and found.evaluation.answers(found.attack) is not None
            ))
            for run in method.runs
        ))
        for method in group.methods
    }  # fmt: skip
    column = strongest(replace(group, methods=tuple(kept.values())))
    if column is None:
        return None
    of = {
        key: tuple(
            found.evaluation
            for run in method.runs
            if (found := best(run, column)) is not None and found.evaluation is not None
        )
        for key, method in kept.items()
    }
    return SharedClasses(attack=column[1], of=of)


def worst_class(results: Sequence[ClassResult]) -> Cell:
    """Return the cell of the class that withstands least."""
    if not results:
        return Cell(title="no predictions were kept")
    one = worst_first(tuple(results))[0]
    alike = sum(found.accuracy == one.accuracy for found in results) - 1
    cell = _accuracy(one.correct, one.n)
    note = f"{shown(one.name)}{f' and {alike} more' if alike else ''}, {cell.note}"
    return replace(cell, note=note, parts={**cell.parts, "name": one.name})


def class_tables(groups: Sequence[Group]) -> tuple[Table, ...]:
    """Return the classes of each group as tables: a row for each class, the methods side by side."""
    return tuple(table for group in groups for table in _tables(group))


def _tables(group: Group) -> list[Table]:
    shared = shared_classes(group)
    if shared is None:
        return []
    found = [(method, results) for method in group.methods if (results := shared.results(method))]
    parts = blocks(found)
    return [
        _table(group, shared, part, f" ({i} of {len(parts)})" if len(parts) > 1 else "")
        for i, part in enumerate(parts, 1)
    ]


def _table(
    group: Group, shared: SharedClasses, found: Sequence[tuple[Method, Sequence[ClassResult]]], part: str
) -> Table:
    worst = shared.attack == WORST_CASE
    clause = "in the worst case" if worst else f"under {group.setting.attack_name(shared.attack)}"
    known = [{one.name: one for one in results} for _, results in found]
    names = list(dict.fromkeys(name for classes in known for name in classes))
    few = len(names) <= MOST_ROWS
    if not few:
        ranked = [[one.name for one in worst_first(tuple(classes.values()), None)] for classes in known]
        names = list(dict.fromkeys(name for turn in zip_longest(*ranked) for name in turn if name is not None))
    counts = {name: {classes[name].n for classes in known if name in classes} for name in names}
    same = all(len(n) == 1 for n in counts.values())
    each = {n for several in counts.values() for n in several}
    note = f"n {each.pop():,} each" if len(each) == 1 else ""
    columns = [Column(head="Class", name="class", numeric=False, note=note)]
    columns += [Column(head="Images", name="")] if same and not note else []
    for method, _ in found:
        columns += [
            Column(head=method.label, sub="clean", name="clean [%]", model=method.label, parts=_PARTS),
            Column(
                head=method.label, sub="attacked", name=f"{shared.attack} [%]", model=method.label,
                parts=(*_PARTS, "taken for"), note=seeds_note(method, shared.of[id(method)]),
            ),
        ]  # fmt: skip
    rows = []
    for place, name in enumerate(names):
        cells = [Cell(value=name, text=shown(name))]
        cells += [Cell(value=n, text=f"{n:,}") for n in counts[name] if same and not note]
        for classes in known:
            cells += _cells(classes.get(name), min(one.accuracy for one in classes.values()), say_n=not same)
        rows.append(TableRow(cells=tuple(cells), left_out=place >= MOST_ROWS and not few))
    several = any(len(shared.of[id(method)]) > 1 for method, _ in found)
    notes = [
        f"In %. Attacked: {clause}, in the ball of the training, with the 95 % interval over the images of a class"
        f"{', those of all seeds together' if several else ''}. Bold: the worst class of each method."
    ]
    if not few:
        notes.append(
            f"The {MOST_ROWS} worst of {len(names):,} classes, taken from each method in turn; "
            f"{len(names) - MOST_ROWS:,} are left out. The CSV has all."
        )
    without = [method.label for method in group.methods if not shared.of[id(method)]]
    if without:
        notes.append(f"Without predictions under this attack: {', '.join(without)}.")
    title = f"accuracy of each class {clause}{part}"
    return Table(
        group=group, columns=tuple(columns), rows=tuple(rows), notes=tuple(notes), name="classes", title=title
    )  # fmt: skip


def _cells(one: ClassResult | None, least: float, *, say_n: bool) -> tuple[Cell, Cell]:
    """Return the cells of a class without and under attack; ``least`` is the accuracy of the method's worst class."""
    if one is None:
        absent = Cell(title="no images of this class")
        return absent, absent
    clean = Cell(title="not measured") if one.clean is None else replace(_accuracy(one.clean, one.n), note="")
    attacked, worst = _accuracy(one.correct, one.n), one.accuracy == least
    taken = f"; most often taken for {shown(one.taken_for)}, {one.taken:,}" if one.taken_for else ""
    parts: dict[str, Value] = {**attacked.parts, "taken for": one.taken_for or None}
    note = attacked.note + (f", n {one.n:,}" if say_n else "")
    return clean, replace(attacked, note=note, title=attacked.title + taken, parts=parts, marked=worst)


def _accuracy(correct: int, n: int) -> Cell:
    low, high = (100 * end for end in wilson_interval(correct, n))
    return Cell(
        value=100 * correct / n,
        text=f"{100 * correct / n:.1f}",
        note=f"{low:.1f}{DASH}{high:.1f}",
        title=f"{correct:,} of {n:,} images; 95 % interval {low:.1f} to {high:.1f} %",
        parts={"low [%]": low, "high [%]": high, "n": n},
    )
