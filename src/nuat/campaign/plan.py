"""What a campaign is: rows (a recipe with changed settings, seed by seed) and the suites of attacks on each.

A campaign is a TOML file; those that come with nuat lie beside this module and are read in the same way.

```toml
seeds = [0]                      # of rows that name none
table = "2-mnist"                # the paper's table whose numbers stand beside ours (optional)

[set]                            # settings of every row, named as on the command line of nuat train
"data.name" = "mnist"

[[suite]]                        # attacks on the best weights of each row; one or more
name = "main"
attacks = ["clean", "pgd-100", "gama-100"]
n = "all"                        # or a number of images, class-balanced
images = "test"                  # or "validation", for tuning
seeds = [0, 1, 2]                # rows of other seeds leave it out (optional; default: every seed)

[[row]]
recipe = "nuat-mnist-small-cnn"
label = "NuAT"                   # optional; the recipe's name otherwise
seeds = [0, 1, 2]                # optional
set = { "defense.lam.peak" = 3 } # optional
```
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from torch import nn

from nuat import data, paper
from nuat.attacks.catalogue import jobs
from nuat.campaign import fields
from nuat.campaign.fields import Settings
from nuat.config import TrainConfig
from nuat.config.arguments import parse
from nuat.errors import InputError, did_you_mean
from nuat.recipes import find


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Attacks on the best weights of a row."""

    name: str
    """Its results are in ``evaluation-<name>.json``."""
    attacks: tuple[str, ...]
    """As for ``nuat evaluate``."""
    n: int | None = None
    """Images, class-balanced; none: all."""
    images: Literal["test", "validation"] = "test"
    """Which images are attacked."""
    seeds: tuple[int, ...] | None = None
    """Rows of these seeds only; none: of every seed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training run of a campaign."""

    label: str
    """Name of the method in the table."""
    recipe: str
    """Name of the recipe."""
    config: TrainConfig
    """The recipe with the campaign's and the row's settings, and the seed."""
    suites: tuple[Suite, ...]
    """What its weights are attacked with."""
    settings: Settings = ()
    """What the row alone changes in its recipe."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

    @property
    def method(self) -> str:
        """Name of the folder that the row's seeds share: of the recipe and what the row changes in it."""
        changed = [f"{name}-{value}" for name, value in self.settings]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join([self.recipe, *changed]))

    @property
    def name(self) -> str:
        """Path of the row in the campaign's folder."""
        return f"{self.method}/seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """Rows in the order in which they run."""

    name: str
    rows: tuple[Row, ...]
    table: str | None = None
    """The paper's table, as for ``nuat recipes --table``, or none."""


def built_in() -> dict[str, str]:
    """Return the campaigns that come with nuat: name to TOML text."""
    files = (file for file in resources.files("nuat.campaign").iterdir() if file.name.endswith(".toml"))
    return {file.name.removesuffix(".toml"): file.read_text() for file in sorted(files, key=lambda file: file.name)}


def load(name: str, *, seeds: Sequence[int] | None = None, settings: Settings = ()) -> Campaign:
    """Return the campaign called ``name``, or in the TOML file of that name.

    Args:
        name: one of ``built_in``, or a path.
        seeds: run every row with these instead of its own.
        settings: changed in every row, over those of the file and of its rows.

    Raises:
        InputError: no such campaign, a file that is not one, an unknown recipe, setting or attack, a row twice.
    """
    known = built_in()
    if name in known:
        return _campaign(known[name], name, f"campaign {name}", seeds, settings)
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"no campaign {name!r} and no such file.{did_you_mean(name, known)} Campaigns: {', '.join(known)}."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None
    return _campaign(text, path.stem, str(path), seeds, settings)


def _campaign(text: str, name: str, where: str, seeds: Sequence[int] | None, settings: Settings) -> Campaign:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}.") from None
    fields.check_names(values, ("seeds", "table", "set", "suite", "row"), where)
    table = values.get("table")
    if table is not None and not isinstance(table, str):
        raise InputError(f"{where}: table={table!r}: expected the name of a table of the paper.")
    if table is not None:
        try:
            paper.table(table)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    entries = enumerate(fields.tables(values, "suite", where))
    suites = tuple(_suite(entry, f"{where}: suite {i + 1}") for i, entry in entries)
    if len({suite.name for suite in suites}) < len(suites):
        raise InputError(f"{where}: two suites have one name; give each its own.")
    common = fields.settings(values.get("set", {}), where)
    rows: list[Row] = []
    for i, entry in enumerate(fields.tables(values, "row", where)):
        here = f"{where}: row {i + 1}"
        fields.check_names(entry, ("recipe", "label", "seeds", "set"), here)
        own = fields.seeds(entry.get("seeds", values.get("seeds", [0])), here)
        rows += _rows(entry, here, own if seeds is None else tuple(seeds), common, settings, suites)
    if seeds is not None and len(set(seeds)) == len(seeds):  # rows that differ in their seeds alone become one
        rows = list({(row.name, row.config): row for row in rows}.values())
    names = [row.name for row in rows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: the row {twice} is there twice; leave one out, or change a setting or the seed.")
    return Campaign(name=name, rows=tuple(rows), table=table)


def _rows(
    entry: Mapping[str, Any],
    where: str,
    seeds: Sequence[int],
    common: Settings,
    over: Settings,
    suites: tuple[Suite, ...],
) -> list[Row]:
    """Return a row of the file, seed by seed; ``common`` holds under its own settings, ``over`` over them."""
    recipe, label = entry.get("recipe"), entry.get("label", entry.get("recipe"))
    if not isinstance(recipe, str) or not isinstance(label, str):
        raise InputError(f"{where}: needs a recipe, and a label that is text if it has one.")
    given = {fields.same_name(name) for name, _ in over}
    own = fields.settings(entry.get("set", {}), where)
    own = tuple((name, value) for name, value in own if fields.same_name(name) not in given)
    for name, _ in (*common, *own, *over):
        if name == "seed" or name in ("evaluation.attacks", "evaluation.n"):
            raise InputError(f"{where}: {name} has no effect here; the seeds and the suites decide that.")
    words = [f"--{name}={value}" for name, value in (*common, *own, *over)]
    try:
        config = find(recipe)()
        if words:  # reading them takes a tenth of a second
            config = parse(TrainConfig, words, prog=f"nuat train {recipe}", default=config)
        if config.data.path is None:
            data.check_name(config.data.name)
        for suite in suites:
            jobs(suite.attacks, nn.Identity(), config.threat)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if any(suite.images == "validation" for suite in suites) and config.data.validation == 0:
        raise InputError(f"{where}: a suite attacks validation images, but data.validation is 0.")
    if "label" not in entry and own:
        label += f" ({', '.join(f'{name} {value}' for name, value in own)})"
    return [
        Row(
            label=label,
            recipe=recipe,
            config=replace(config, seed=seed),
            suites=tuple(suite for suite in suites if suite.seeds is None or seed in suite.seeds),
            settings=own,
        )
        for seed in seeds
    ]


def _suite(entry: Mapping[str, Any], where: str) -> Suite:
    fields.check_names(entry, ("name", "attacks", "n", "images", "seeds"), where)
    name, attacks, n = entry.get("name"), entry.get("attacks"), entry.get("n", "all")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"{where}: name={name!r}: expected letters, digits, dots and hyphens; it names a file.")
    if name.endswith(".partial"):
        raise InputError(f"{where}: name={name!r}: .partial names what a suite has finished so far; choose another.")
    if not isinstance(attacks, list) or not all(isinstance(attack, str) for attack in attacks):
        raise InputError(f'{where}: attacks={attacks!r}: expected a list such as ["clean", "pgd-100"].')
    if n != "all" and not (isinstance(n, int) and not isinstance(n, bool) and n >= 1):
        raise InputError(f'{where}: n={n!r}: expected a number of images of at least 1, or "all".')
    images = entry.get("images", "test")
    if images not in ("test", "validation"):
        raise InputError(f'{where}: images={images!r}: expected "test" or "validation".')
    seeds = None if entry.get("seeds") is None else fields.seeds(entry["seeds"], where)
    return Suite(name=name, attacks=tuple(attacks), n=None if n == "all" else n, images=images, seeds=seeds)
