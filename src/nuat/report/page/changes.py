"""The settings in which a run differs from its recipe or from other runs, and the commands to reproduce it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from nuat.errors import printable
from nuat.recipes import RECIPES
from nuat.records.methods import setting_text, without_folder
from nuat.records.runs import RunRecord
from nuat.records.settings import flat, has_effect, to_json


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting in which a run differs from its recipe."""

    name: str
    """Dotted name, such as defense.lam.peak."""
    value: str
    """Value in the run."""
    default: str
    """Value in the recipe."""

    def __str__(self) -> str:
        return f"{self.name} {self.value} (recipe: {self.default})"


def changes(run: RunRecord) -> tuple[Change, ...]:
    """Return the settings of a run that change the training against its recipe, but for the seed."""
    return beside(run, run.recipe)


def beside(run: RunRecord, recipe: str) -> tuple[Change, ...]:
    """Return the settings of a run that change the training against any recipe, but for the seed."""
    found = _against(run, recipe)
    return tuple(c for c in found if c.name != "seed" and has_effect(c.name, "method", c.value))


def common(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return the settings in which all runs agree."""
    settings = [flat(run.config) for run in runs]
    first = settings[0] if settings else {}
    return {
        name: setting_text(value)
        for name, value in first.items()
        if all(name in other and other[name] == value for other in settings[1:])
    }


def own(run: RunRecord, shared: Iterable[str]) -> dict[str, str]:
    """Return a run's settings except those whose names are ``shared``."""
    left = set(shared)
    return {name: setting_text(value) for name, value in flat(run.config).items() if name not in left}


def commands(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return the commands that repeat a run, each with its description."""
    found = []
    recorded = run.environment.get("command")
    if isinstance(recorded, list) and recorded:
        found.append(("Original command", _joined([_program(str(recorded[0])), *map(str, recorded[1:])])))
    if run.recipe in RECIPES and run.config:
        words = ["nuat", "train", run.recipe]
        for change in _against(run, run.recipe):
            if change.name.endswith(".class"):  # another defense than the recipe's: no setting says that
                return tuple(found)
            words += [f"--{change.name.replace('_', '-')}", change.value]
        found.append(("This run", _joined(words)))
    for file in run.evaluations:
        if file.file == "evaluation.json" or file.part != "test":
            continue  # the training's own; and the validation images are attacked by campaigns alone
        evaluation = file.evaluation
        words = ["nuat", "evaluate", run.called, "--attacks", ",".join(r.name for r in evaluation.results)]
        words += ["--n", str(evaluation.n), "--seed", str(evaluation.seed), "--batch-size", str(evaluation.batch_size)]
        words += [] if evaluation.norm == run.norm else ["--norm", evaluation.norm]
        words += [] if evaluation.eps == run.eps else ["--eps", setting_text(evaluation.eps)]
        words += [] if evaluation.also is None else ["--also", evaluation.also]
        found.append((printable(f"{file.file}, from its weights"), _joined(words)))
    return tuple(found)


def _joined(words: Sequence[str]) -> str:
    return shlex.join(without_folder(word) for word in words)


def _program(word: str) -> str:
    """Return ``nuat`` for any of the files that start it."""
    return "nuat" if PurePath(word).name in ("nuat", "__main__.py") else word


def _against(run: RunRecord, recipe: str) -> tuple[Change, ...]:
    if recipe not in RECIPES:
        return ()
    theirs, ours = flat(to_json(RECIPES[recipe]())), flat(run.config)
    return tuple(
        Change(name=name, value=setting_text(value), default=setting_text(theirs[name]))
        for name, value in ours.items()
        if name in theirs and value != theirs[name]
    )
