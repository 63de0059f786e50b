"""Group the runs that can be compared, by campaign, data set, network and ball, and the seeds of each method."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nuat import paper
from nuat.attacks.catalogue import attack_name, attack_strength
from nuat.core.eps import threat_text
from nuat.core.threat import Norm
from nuat.data import SETS
from nuat.recipes import RECIPES
from nuat.records.evaluations import Measurement
from nuat.records.methods import differences, method_key
from nuat.records.runs import RunRecord

_SHORTER = {"nuat-mnist": "nuat-wa-mnist-mnist-cnn"}
"""Recipes that train a row of the paper with other settings, mapped to the recipe of that row."""
AccuracyKey = tuple[str, str]
"""Part (test or validation) and attack."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Data set, network and ball that the runs of a group share."""

    campaign: str | None
    dataset: str
    """Name of the data set, file or folder."""
    network: str
    """Name, width and activation, as in the settings."""
    norm: Norm
    eps: float | None
    also: str | None = None
    """Further balls of a union."""

    def attack_name(self, attack: str) -> str:
        """Return the name of an attack for people; in a union with its norm."""
        return attack_name(attack, None if self.also is None else self.norm)

    @property
    def title(self) -> str:
        """Data set, network and ball in words."""
        eps = "" if self.eps is None else f", {threat_text(self.norm, self.eps, self.also)}"
        title = SETS[self.dataset].title if self.dataset in SETS else self.dataset
        return f"{title}, {self.network}{eps}"

    @property
    def heading(self) -> str:
        """Title with the campaign, if there is one."""
        return self.title if self.campaign is None else f"{self.title} (campaign {self.campaign})"


@dataclass(frozen=True, kw_only=True)
class Method:
    """The runs of one method in a group; they differ in their seeds alone."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def ball(self) -> str:
        """Norm and radius that the method was trained for. Empty: not recorded."""
        norm, eps, also = self.runs[0].threat
        return "" if eps is None else threat_text(norm, eps, also).replace("eps ", "")

    def measured(self, column: AccuracyKey) -> tuple[Measurement, ...]:
        """Return each run's accuracy in a column, the one over the most images; runs without one are left out."""
        return tuple(found for run in self.runs if (found := best(run, column)) is not None)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that can be compared."""

    setting: Setting
    methods: tuple[Method, ...]
    table: str | None
    """The paper's table that the runs belong to, if any."""

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """All runs of the group."""
        return tuple(run for method in self.methods for run in method.runs)

    @property
    def columns(self) -> tuple[AccuracyKey, ...]:
        """The accuracies measured at the eps of the group, the paper's columns first."""
        there = {(found.part, found.attack) for run in self.runs for found in run.own_measurements}
        first = [("test", quantity) for quantity in self.paper_quantities]
        return (*first, *sorted(there - set(first), key=_order))

    @property
    def paper_quantities(self) -> tuple[str, ...]:
        """Accuracies in the paper's table, in its order."""
        rows = () if self.table is None else paper.table(self.table)
        names = dict.fromkeys(quantity for row in rows for quantity in row.values)
        return tuple(name for name in names if not name.startswith("#") and not name.endswith("epochs"))

    @property
    def tuning(self) -> bool:
        """Whether the runs were scored on validation images only. They chose settings and are no results."""
        return {found.part for run in self.runs for found in run.measurements} == {"validation"}

    def theirs(self, method: Method) -> paper.PaperRow | None:
        """Return the paper's row for a method, or None."""
        if self.table is None:
            return None
        recipe = row_recipe(method.runs[0])
        return next((row for row in paper.table(self.table) if row.recipe and row.recipe == recipe), None)


def remarks(method: Method) -> tuple[str, ...]:
    """Return the warnings on a method's runs and on their results; those on several seeds alike are there once."""
    several = len(method.runs) > 1
    found = []
    for run in method.runs:
        seed = f", seed {run.seed}" if several else ""
        found += [f"left out{seed}: {reason}" for reason in run.damaged]
        found += [f"suite {name} failed{seed}: {reason}" for name, reason in run.failed_suites.items()]
        if run.failure is not None:
            found.append(f"failed{seed}: {run.failure}")
        elif run.state != "done":
            found.append(run.state + seed)
        found += [f"alarm: {text}{seed}" for text in alarm_texts(run.alarms)]
    seeds: dict[str, list[str]] = {}
    for run in method.runs:
        for caveat in run.caveats:
            seeds.setdefault(caveat, []).append(str(run.seed))
    for caveat, alike in seeds.items():
        found.append(caveat + (f" (seed{'s' * (len(alike) > 1)} {', '.join(alike)})" if several else ""))
    return tuple(found)


def alarm_texts(alarms: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a text for each monitor that raised alarms: its name and its epochs."""
    by_monitor: dict[str, set[int]] = {}
    for alarm in alarms:
        by_monitor.setdefault(alarm["monitor"], set()).add(alarm["epoch"])
    return [f"{monitor}, {_epochs(sorted(epochs))}" for monitor, epochs in by_monitor.items()]


def _epochs(epochs: Sequence[int]) -> str:
    """Return "epoch 3" or "epochs 1, 3 to 5"."""
    parts: list[str] = []
    for first in (epoch for epoch in epochs if epoch - 1 not in epochs):
        last = next(epoch for epoch in epochs if epoch >= first and epoch + 1 not in epochs)
        parts += [str(first)] if last == first else [f"{first} to {last}"]
    return f"epoch{'s' * (len(epochs) > 1)} {', '.join(parts)}"


def whatever_the_ball(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups of one campaign, data set and network as one; without those that tuned on validation images.

    The setting of each has no eps.
    """
    together: dict[tuple[str | None, str, str], list[Group]] = {}
    for group in groups:
        if not group.tuning:
            place = (group.setting.campaign, group.setting.dataset, group.setting.network)
            together.setdefault(place, []).append(group)
    return tuple(
        Group(
            setting=replace(several[0].setting, eps=None, also=None),
            methods=tuple(method for group in several for method in group.methods),
            table=None,
        )
        for several in together.values()
    )


def row_recipe(run: RunRecord) -> str:
    """Return the recipe of the paper's row to compare a run with: its own, or the full-length version of it."""
    return _SHORTER.get(run.recipe, run.recipe)


def _order(column: AccuracyKey) -> tuple[bool, int, int, str]:
    """Return the sort key of a column: test images first, then from no attack to the strongest."""
    part, attack = column
    return part != "test", *attack_strength(attack), attack


def best(run: RunRecord, column: AccuracyKey) -> Measurement | None:
    """Return a run's accuracy under an attack in its own ball, over the most images. None: not measured."""
    found = [m for m in run.own_measurements if (m.part, m.attack) == column]
    return max(found, key=lambda m: m.n, default=None)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the standard deviation (n - 1). None for the latter: a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def group(runs: Sequence[RunRecord]) -> tuple[Group, ...]:
    """Return the groups, the largest first and tuning last; methods are in the order of the recipes."""
    groups: dict[Setting, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(_setting(run), []).append(run)
    made = (_group(setting, found) for setting, found in groups.items())
    return tuple(sorted(made, key=lambda one: (one.tuning, -len(one.runs))))


def _group(setting: Setting, runs: Sequence[RunRecord]) -> Group:
    table = _table(setting, runs)
    labels = {} if table is None else {row.recipe: row.method for row in paper.table(table) if row.recipe}
    methods: list[Method] = []
    for found in _by_identity(runs):
        label = found[0].label or labels.get(found[0].recipe, found[0].recipe)
        seeds = [run.seed for run in found]
        # the same seed twice is not two seeds: a mean over them would claim what was not done
        parts = [found] if len(set(seeds)) == len(seeds) else [[run] for run in found]
        methods += [Method(label=label, runs=tuple(part)) for part in parts]
    order = {recipe: place for place, recipe in enumerate(RECIPES)}
    methods.sort(key=lambda method: order.get(method.runs[0].recipe, len(order)))
    return Group(setting=setting, methods=_distinct(methods), table=table)


def _distinct(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Return the methods. Equal labels are extended by the settings that differ, or else by the folders."""
    labels = [method.label for method in methods]
    for label in {label for label in labels if labels.count(label) > 1}:
        places = [i for i, method in enumerate(methods) if method.label == label]
        texts = differences([methods[i].runs[0].config for i in places])
        for i, text in zip(places, texts, strict=True):
            labels[i] = f"{label} ({text if text and texts.count(text) == 1 else methods[i].runs[0].called})"
    return tuple(replace(method, label=label) for method, label in zip(methods, labels, strict=True))


def _by_identity(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs, those of equal recipe, label and settings in one list."""
    together: dict[object, list[RunRecord]] = {}
    for run in runs:
        together.setdefault((run.recipe, run.label, method_key(run.config)), []).append(run)
    return [sorted(found, key=lambda run: -1 if run.seed is None else run.seed) for found in together.values()]


def _setting(run: RunRecord) -> Setting:
    return Setting(
        campaign=run.campaign,
        dataset=run.data or "settings not recorded",
        network=run.network or run.recipe,
        norm=run.norm,
        eps=run.eps,
        also=run.also,
    )


def _table(setting: Setting, runs: Sequence[RunRecord]) -> str | None:
    """Return the paper's table that has a row for one of the runs' recipes, on the same data and at the same eps."""
    recipes = {row_recipe(run) for run in runs}
    for name in paper.TABLES:
        numbers = paper.of_table(name)
        same = (numbers[0].dataset, "Linf", numbers[0].eps, None) == (
            setting.dataset,
            setting.norm,
            setting.eps,
            setting.also,
        )
        if same and recipes & {number.recipe for number in numbers if number.recipe}:
            return name
    return None
