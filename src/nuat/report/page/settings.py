"""A run's settings beside those of its recipe and of other runs."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from nuat.recipes import RECIPES
from nuat.records.settings import to_json
from nuat.report.page.runs import Run

_NO_EFFECT = ("device", "monitors.", "evaluation.", "checkpoint_every", "data.path", "data.cache", "data.download")
"""Settings that do not change what is trained; the data of a path are named by it."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that a run has otherwise than its recipe."""

    name: str
    """Such as defense.lam.peak."""
    value: str
    """The run's."""
    default: str
    """The recipe's."""

    def __str__(self) -> str:
        return f"{self.name} {self.value} (recipe: {self.default})"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def show(value: Any) -> str:
    """Return a setting as the command line takes it, to the last digit."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        steps = round(value * 255)
        # 8/255 rather than 0.03137254901960784, which is the same number
        return f"{steps}/255" if steps / 255 == value and len(repr(value)) > 8 else repr(value)
    return ",".join(show(item) for item in value) if isinstance(value, list) else local(str(value))


def local(text: str) -> str:
    """Return text as it is, an absolute path without where it lay on the disk of the machine that wrote it."""
    option, sign, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = PurePath(value)
    return f"{option}{sign}.../{path.name}" if path.is_absolute() and path.name else text


def changes(run: Run) -> tuple[Change, ...]:
    """Return what changes the training against the recipe, but for the seed; fields of other versions are left out."""
    return beside(run, run.recipe)


def beside(run: Run, recipe: str) -> tuple[Change, ...]:
    """Return what changes the training of a run against another recipe, but for the seed."""
    return tuple(change for change in _against(run, recipe) if _counts(change.name))


def common(runs: Sequence[Run]) -> dict[str, str]:
    """Return the settings in which all runs agree."""
    flats = [flatten(run.config) for run in runs]
    first = flats[0] if flats else {}
    return {
        name: show(value)
        for name, value in first.items()
        if all(name in flat and flat[name] == value for flat in flats[1:])
    }


def own(run: Run, shared: Iterable[str]) -> dict[str, str]:
    """Return a run's settings but for those whose names are ``shared``."""
    left = set(shared)
    return {name: show(value) for name, value in flatten(run.config).items() if name not in left}


def identity(run: Run) -> tuple[tuple[str, str], ...]:
    """Return what runs of one method have in common: every setting that counts, but for the seed."""
    flat = flatten(run.config)
    return tuple((name, show(value)) for name, value in sorted(flat.items()) if _counts(name))


def commands(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the commands that make a run again, each after what it is."""
    found = []
    recorded = run.environment.get("command")
    if isinstance(recorded, list) and recorded:
        found.append(("As it was started", _joined([_program(str(recorded[0])), *map(str, recorded[1:])])))
    if run.recipe in RECIPES and run.config:
        words = ["nuat", "train", run.recipe]
        for change in _all_changes(run):
            if change.name.endswith(".class"):  # another defense than the recipe's: no setting says that
                return tuple(found)
            words += [f"--{change.name.replace('_', '-')}", change.value]
        found.append(("This run alone", _joined(words)))
    for file in run.evaluations:
        if file.file == "evaluation.json" or file.part != "test":
            continue  # the training's own; and the validation images are attacked by campaigns alone
        evaluation = file.evaluation
        words = ["nuat", "evaluate", run.called, "--attacks", ",".join(r.name for r in evaluation.results)]
        words += ["--n", str(evaluation.n), "--seed", str(evaluation.seed), "--batch-size", str(evaluation.batch_size)]
        words += [] if evaluation.norm == run.norm else ["--norm", evaluation.norm]
        words += [] if evaluation.eps == run.eps else ["--eps", show(evaluation.eps)]
        found.append((f"{file.file}, from its weights", _joined(words)))
    return tuple(found)


def _joined(words: Sequence[str]) -> str:
    return shlex.join(local(word) for word in words)


def _program(word: str) -> str:
    """Return ``nuat`` for whatever file started it."""
    return "nuat" if PurePath(word).name in ("nuat", "__main__.py") else word


def _counts(name: str) -> bool:
    return name != "seed" and not name.startswith(_NO_EFFECT)


def _all_changes(run: Run) -> tuple[Change, ...]:
    return _against(run, run.recipe)


def _against(run: Run, recipe: str) -> tuple[Change, ...]:
    if recipe not in RECIPES:
        return ()
    theirs, ours = flatten(to_json(RECIPES[recipe]())), flatten(run.config)
    return tuple(
        Change(name=name, value=show(value), default=show(theirs[name]))
        for name, value in ours.items()
        if name in theirs and value != theirs[name]
    )
