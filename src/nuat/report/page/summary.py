"""Summary of the results in sentences, from the records alone."""

from collections.abc import Callable, Sequence
from functools import partial

from nuat.attacks.catalogue import WORST_CASE
from nuat.errors import InputError
from nuat.evaluation.comparison import compare
from nuat.evaluation.results import black_box_note
from nuat.figures.common_attack import STRONGEST_FIRST
from nuat.records.evaluations import Measurement
from nuat.records.runs import RunRecord
from nuat.report.page.changes import beside
from nuat.report.page.groups import AccuracyKey, Group, Method, best, mean_and_deviation, row_recipe
from nuat.report.page.table import interval_text

_STANDARD = tuple(name for name in STRONGEST_FIRST if name.startswith("autoattack"))
_RANKED_BY = tuple(dict.fromkeys((*_STANDARD, WORST_CASE, *STRONGEST_FIRST)))
"""Attacks that methods are ranked by, the strongest first. The worst case follows AutoAttack, but leads in a union: an
attack is in one of the balls alone."""
_ALARMS = {
    "overfitting": "catastrophic overfitting",
    "collapse": "a collapse to a constant",
    "nonfinite": "losses that are not finite",
}


def strongest(group: Group) -> AccuracyKey | None:
    """Return the attack that methods are ranked by: the strongest that all runs have, else all methods, else any.

    An attack on one of several seeds would rank a method by that seed. Runs without attacks are ignored.
    """
    robust = [column for column in group.columns if column[1] != "clean"]
    order = {name: place for place, name in enumerate(_RANKED_BY)}
    order |= {WORST_CASE: -1} if group.setting.also is not None else {}
    robust.sort(key=lambda column: (column[0] != "test", order.get(column[1], len(order))))
    runs = [run for run in group.runs if any(best(run, column) for column in group.columns)]
    methods = [method for method in group.methods if any(method.measured(column) for column in group.columns)]
    for column in robust:
        if runs and all(best(run, column) for run in runs) and _alike(runs, column):
            return column
    for every in (all, any):
        for column in robust:
            has = every(bool(method.measured(column)) for method in methods)
            if methods and has and _alike(runs, column):
                return column
    return None


def _alike(runs: Sequence[RunRecord], column: AccuracyKey) -> bool:
    """Return whether an accuracy is over the same attacks with the same settings in all runs."""
    return len({(frozenset(one.attacks), one.settings) for run in runs if (one := best(run, column))}) == 1


def under(found: Measurement) -> str:
    """Return the beginning of a sentence on an accuracy."""
    if found.attack != WORST_CASE:
        return f"Under {found.label}"
    attacks = "black-box attacks alone" if black_box_note(found.attacks) else "all attacks"
    return f"In the worst case of {attacks} within {found.ball}"


def ranking(group: Group, column: AccuracyKey) -> list[tuple[Method, float]]:
    """Return the methods that have this accuracy, each with its mean in %, the best first."""
    means = [
        (method, mean_and_deviation([m.percent for m in found])[0])
        for method in group.methods
        if (found := method.measured(column))
    ]
    return sorted(means, key=lambda pair: -pair[1])


def lead(groups: Sequence[Group], unreadable: int) -> str:
    """Return the first paragraph of the page."""
    runs = [run for group in groups for run in group.runs]
    if len(groups) == 1:
        said = group_sentences(groups[0])
    else:
        tuning = sum(len(group.runs) for group in groups if group.tuning)
        trials = f" {tuning} of the runs only chose settings, on validation images." if tuning else ""
        said = [f"{len(runs)} runs in {len(groups)} settings, each with its own table.{trials}"]
        said += _events(groups, names=False)
    said += _checks(runs)
    if unreadable:
        folders = (
            "One folder could not be read and is"
            if unreadable == 1
            else f"{unreadable} folders could not be read and are"
        )
        said.append(f"{folders} left out.")
    return " ".join(said)


def finding(group: Group) -> str:
    """Return one sentence on a group."""
    column = strongest(group)
    return _unranked(group) or "Nothing was attacked yet." if column is None else _first(group, column)


def _unranked(group: Group) -> str:
    """Return why methods that were attacked are not ranked; empty: nothing was attacked."""
    attacked = any(
        column[1] != "clean" and method.measured(column) for column in group.columns for method in group.methods
    )
    return "No attack ran with the same settings in all runs, so none is ranked." if attacked else ""


def group_sentences(group: Group) -> list[str]:
    """Return the sentences on a group."""
    runs, methods = group.runs, group.methods
    if len(runs) == 1:
        said = [f"One run, {methods[0].label}, on {group.setting.title}."]
    else:
        fewest, most = min(len(m.runs) for m in methods), max(len(m.runs) for m in methods)
        seeds = "one seed" if most == 1 else f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
        each = " each" if len(methods) > 1 else ""
        count = "One method" if len(methods) == 1 else f"{len(methods)} methods"
        said = [f"{count} on {group.setting.title}{_of(group)}, {seeds}{each}."]
    column = strongest(group)
    if column is not None:
        said += [_first(group, column), *_others(group, column)]
    elif unranked := _unranked(group):
        said.append(unranked)
    return said + _events([group], names=True)


def _of(group: Group) -> str:
    return "" if group.setting.campaign is None else f" (campaign {group.setting.campaign})"


def _first(group: Group, column: AccuracyKey) -> str:
    """Return the sentence on the most robust method."""
    method = ranking(group, column)[0][0]
    found, clean = method.measured(column), method.measured((column[0], "clean"))
    said = f"{under(found[0])} on {_images(found)} {method.label} is right on {_figure(found)}"
    said += f", without an attack on {_figure(clean, interval=False)}" if clean else ""
    row = group.theirs(method)
    if row is not None and column[0] == "test" and column[1] in row.values:
        changed = len(beside(method.runs[0], row_recipe(method.runs[0])))
        recipe = f", for a recipe from which this run differs in {_count(changed, 'setting')}" if changed else ""
        said += f"; the paper has {row.values[column[1]]:.2f} %{recipe}"
    return said + "."


def _others(group: Group, column: AccuracyKey) -> list[str]:
    """Return the sentences on the other methods: which differ from the first beyond chance, and the costs."""
    order = [method for method, _ in ranking(group, column)]
    if len(order) == 1:
        return []
    first, rest = order[0], order[1:]
    apart = {id(method): _apart(first, method, column) for method in rest}
    alike = [method.label for method in rest if apart[id(method)] is False]
    said = []
    if alike:
        said.append(f"At the 5 % level these images do not tell it from {_listed(alike)}.")
    following = next((method for method in rest if apart[id(method)] is not False), None)
    if following is not None:
        sure = ", a difference that these images show" if apart[id(following)] else ""
        said.append(f"{following.label} follows with {_figure(following.measured(column))}{sure}.")
    if len(order) > 2 and order[-1] is not following:
        least = _figure(order[-1].measured(column), interval=False)
        said.append(f"The least robust is {order[-1].label} with {least}.")
    return said + _costs(first, following or rest[0])


def _costs(a: Method, b: Method) -> list[str]:
    costs = [[run.end["forwards"] + run.end["backwards"] for run in method.runs if run.end] for method in (a, b)]
    if not all(costs):
        return []
    one, other = (f"{mean_and_deviation(cost)[0] / 1e6:.2f} million" for cost in costs)
    if one == other:
        return [f"Training passed {one} images forward and backward for {a.label}, and as many for {b.label}."]
    return [f"Training passed {one} images forward and backward for {a.label}, {other} for {b.label}."]


def _images(found: Sequence[Measurement]) -> str:
    counts = sorted({measurement.n for measurement in found})
    return f"{' or '.join(f'{n:,}' for n in counts)} {found[0].part} images"


def _figure(found: Sequence[Measurement], *, interval: bool = True) -> str:
    mean, deviation = mean_and_deviation([measurement.percent for measurement in found])
    if deviation is not None:
        return f"{mean:.2f} ± {deviation:.2f} %"
    return f"{mean:.2f} %" + (f" (95 % interval {interval_text(found[0])})" if interval else "")


def _apart(a: Method, b: Method, column: AccuracyKey) -> bool | None:
    """Return whether two methods differ beyond chance on these images. None: they have several seeds."""
    ours, theirs = a.measured(column), b.measured(column)
    if len(ours) != 1 or len(theirs) != 1:
        return None
    one, other = ours[0].evaluation, theirs[0].evaluation
    if one is not None and other is not None:
        try:
            found = {difference.attack: difference for difference in compare(one, other)}.get(column[1])
        except InputError:  # of other images or settings, so there are no pairs
            found = None
        if found is not None:
            return found.is_real
    return ours[0].interval[0] > theirs[0].interval[1]


def _events(groups: Sequence[Group], *, names: bool) -> list[str]:
    """Return the sentences on failures and alarms, with the names of the methods if asked for."""
    pairs = [(method.label, run, one.tuning) for one in groups for method in one.methods for run in method.runs]
    hits: list[tuple[str, Callable[[RunRecord], bool]]] = [
        ("failed", lambda run: run.failure is not None),
        ("did not come to the end of training", lambda run: run.failure is None and run.state != "done"),
        ("drew warnings when evaluated", lambda run: bool(run.caveats)),
    ]
    for monitor, text in _ALARMS.items():
        hits.append((f"raised the alarm of {text}", partial(_raised, monitor)))
    said = []
    for text, hit in hits:
        # settings that were tried and not taken say little of the methods
        tried = sum(hit(run) for _, run, tuning in pairs if tuning)
        labels = [label for label, run, tuning in pairs if hit(run) and not tuning]
        if labels:
            also = f" (and {tried} in tuning)" if tried else ""
            listed = f": {_listed(list(dict.fromkeys(labels)))}" if names else ""
            said.append(f"{'One run' if len(labels) == 1 else f'{len(labels)} runs'} {text}{also}{listed}.")
        elif tried:
            said.append(f"{'One tuning run' if tried == 1 else f'{tried} tuning runs'} {text}.")
    return said


def _raised(monitor: str, run: RunRecord) -> bool:
    return any(alarm["monitor"] == monitor for alarm in run.alarms)


def _checks(runs: Sequence[RunRecord]) -> list[str]:
    found = [run.diagnosis for run in runs if run.diagnosis is not None]
    if not found:
        return []
    counts = [sum(d.count(status) for d in found) for status in ("PASS", "FAIL", "INCONCLUSIVE")]
    return [
        f"nuat diagnose examined {_count(len(found), 'run')}: {_count(counts[0], 'check')} passed, {counts[1]} failed, "
        f"{counts[2]} stayed inconclusive."
    ]


def _count(n: int, noun: str) -> str:
    return f"{'one' if n == 1 else n} {noun}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, at most five of them."""
    shown = [*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
