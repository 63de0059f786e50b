"""Definition of a campaign: rows (a recipe with changed settings, seed by seed) and suites of attacks on each.

A campaign is a TOML file. Those that come with nuat lie in this package and are read in the same way. Code of your own
is named relative to the file: ``recipe = "my.py:recipe"``, ``attacks = ["clean", "my.py:MyAttack"]``. Loading the
campaign runs it, as ``make`` runs what its file names.

```toml
seeds = [0]                      # seeds of rows that name none
table = "2-mnist"                # the paper's table to compare with (optional)

[set]                            # settings of every row, named as on the command line of nuat train
"data.name" = "mnist"

[[suite]]                        # attacks on the best weights of each row; one or more
name = "main"
attacks = ["clean", "pgd-100", "gama-100"]
n = "all"                        # or a number of images, class-balanced
images = "test"                  # or "validation", for tuning
seeds = [0, 1, 2]                # rows of these seeds alone (optional; default: every seed)
threat = "Linf:0.3,L2:1.5"       # balls to attack in (optional; default: those of the row's training)

[[row]]
recipe = "nuat-mnist-small-cnn"
label = "NuAT"                   # optional; default: the recipe's name
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
from typing import Any, Literal, cast

from torch import nn

from nuat import data, own_code, paper
from nuat.attacks.catalogue import across
from nuat.attacks.planned_jobs import jobs
from nuat.campaign import fields
from nuat.campaign.fields import Settings, same_name
from nuat.config import ThreatConfig, TrainConfig
from nuat.config.arguments import parse
from nuat.config.other_ball import in_asked_ball
from nuat.core.eps import check_usual, parse_number
from nuat.core.threat import Norm
from nuat.errors import InputError, did_you_mean
from nuat.recipes import find

_LONGEST_NAME = 255
"""Bytes of a file's name; the names of rows are ASCII."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Attacks on the best weights of a row."""

    name: str
    """Name; the results are in ``evaluation-<name>.json``."""
    attacks: tuple[str, ...]
    """Names of the attacks, as for ``nuat evaluate``."""
    n: int | None = None
    """Images, class-balanced. None: all images."""
    images: Literal["test", "validation"] = "test"
    """Part of the data whose images are attacked."""
    seeds: tuple[int, ...] | None = None
    """Seeds of the rows that it is run on. None: every row."""
    threat: ThreatConfig | None = None
    """Balls that images are attacked in. None: those that each row was trained for."""

    def threat_of(self, config: TrainConfig) -> ThreatConfig:
        """Return the balls in which a model of these settings is attacked."""
        return self.threat or config.threat

    def line_up(self, config: TrainConfig) -> tuple[str, ...]:
        """Return the attacks on a model of these settings, in each of the balls."""
        return across(self.attacks, [one.norm for one in self.threat_of(config).parts])


@dataclass(frozen=True, kw_only=True)
class CampaignRow:
    """One training run of a campaign."""

    label: str
    """Name of the method in the table."""
    recipe: str
    """Name of the recipe, pinned if it is the user's own."""
    config: TrainConfig
    """Settings: the recipe's, changed by the campaign and the row, and the seed."""
    suites: tuple[Suite, ...]
    """Suites that its weights are attacked with."""
    settings: Settings = ()
    """Settings that this row changes in its recipe."""
    named: str | None = None
    """Recipe as the campaign's file names it. None: as in ``recipe``."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

    @property
    def method(self) -> str:
        """Name of the folder of the row's seeds: the recipe and the settings that the row changes."""
        changed = [f"{name}-{value}" for name, value in self.settings]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join([self.named or self.recipe, *changed]))

    @property
    def name(self) -> str:
        """Path of the row in the campaign's folder."""
        return f"{self.method}/seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """Rows in the order in which they run."""

    name: str
    rows: tuple[CampaignRow, ...]
    table: str | None = None
    """Name of a table of the paper, as for ``nuat recipes --table``. None: no comparison."""


def built_in() -> dict[str, str]:
    """Return the campaigns that come with nuat, as TOML texts by name."""
    files = (file for file in resources.files("nuat.campaign").iterdir() if file.name.endswith(".toml"))
    return {file.name.removesuffix(".toml"): file.read_text() for file in sorted(files, key=lambda file: file.name)}


def load(name: str, *, seeds: Sequence[int] | None = None, settings: Settings = ()) -> Campaign:
    """Return the campaign of a name or in a TOML file.

    Args:
        name: one of ``built_in``, or the path of a TOML file.
        seeds: seeds of every row. None: those in the file.
        settings: settings of every row; they override the file's.

    Raises:
        InputError: there is no such campaign, or it has an unknown key, recipe, setting or attack, or a row twice.
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
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read as text (not UTF-8).") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return _campaign(text, path.stem, str(path), seeds, settings, path.parent)


def _campaign(
    text: str,
    name: str,
    where: str,
    seeds: Sequence[int] | None,
    settings: Settings,
    folder: Path = Path(),
) -> Campaign:
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # a number of thousands of digits is one, too
        raise InputError(f"{where}: not TOML: {str(error).partition(';')[0]}.") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply for a campaign.") from None
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
    suites = tuple(_suite(entry, f"{where}: suite {i + 1}", folder) for i, entry in entries)
    if len({suite.name for suite in suites}) < len(suites):
        raise InputError(f"{where}: two suites have one name; give each its own.")
    common = fields.settings(values.get("set", {}), where)
    rows: list[CampaignRow] = []
    for i, entry in enumerate(fields.tables(values, "row", where)):
        here = f"{where}: row {i + 1}"
        fields.check_names(entry, ("recipe", "label", "seeds", "set"), here)
        own = fields.seeds(entry.get("seeds", values.get("seeds", [0])), here)
        rows += _rows(entry, here, own if seeds is None else tuple(seeds), common, settings, suites, folder)
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
    folder: Path,
) -> list[CampaignRow]:
    """Return a row of the file, seed by seed. Its own settings override ``common``, and ``over`` overrides both."""
    recipe = entry.get("recipe")
    # the place of a file of the user's own is no part of a name
    named = Path(recipe).name if isinstance(recipe, str) and Path(recipe).is_absolute() else recipe
    label = entry.get("label", named)
    if not isinstance(recipe, str) or not isinstance(label, str):
        raise InputError(f"{where}: needs a recipe, and a label that is text if it has one.")
    given = {fields.same_name(name) for name, _ in over}
    own = fields.settings(entry.get("set", {}), where)
    own = tuple((name, value) for name, value in own if fields.same_name(name) not in given)
    for name, _ in (*common, *own, *over):
        if name == "seed" or name in ("evaluation.attacks", "evaluation.n"):
            raise InputError(f"{where}: {name} has no effect here; the seeds and the suites decide that.")
    try:
        config = find(recipe, folder)()
        pinned = own_code.pin(recipe, folder)
        words = [*_words((*common, *own), folder), *_words(over, Path())]
        if words:  # reading them takes a tenth of a second
            default = in_asked_ball(config, words)
            config = parse(TrainConfig, words, prog=f"nuat train {recipe}", default=default)
        if config.data.path is None:
            data.check_name(config.data.name)
        for suite in suites:
            jobs(suite.line_up(config), nn.Identity(), suite.threat_of(config))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if any(suite.images == "validation" for suite in suites) and config.data.validation == 0:
        raise InputError(f"{where}: a suite attacks validation images, but data.validation is 0.")
    if "label" not in entry and own:
        label += f" ({', '.join(f'{name} {value}' for name, value in own)})"
    rows = [
        CampaignRow(
            label=label,
            recipe=pinned,
            named=named,
            config=replace(config, seed=seed),
            suites=tuple(suite for suite in suites if suite.seeds is None or seed in suite.seeds),
            settings=own,
        )
        for seed in seeds
    ]
    if rows and len(rows[0].method) > _LONGEST_NAME:
        raise InputError(
            f"{where}: its settings make a folder name of {len(rows[0].method)} characters, and file systems allow "
            f"{_LONGEST_NAME}. Move settings that all rows share to the table [set]."
        )
    return rows


def _words(settings: Settings, folder: Path) -> list[str]:
    """Return settings as options; a network of the user's own, relative to ``folder``, is run and pinned."""
    return [
        f"--{name}={own_code.pin(value, folder) if same_name(name) == 'model.name' else value}"
        for name, value in settings
    ]


def _suite(entry: Mapping[str, Any], where: str, folder: Path) -> Suite:
    fields.check_names(entry, ("name", "attacks", "n", "images", "seeds", "threat"), where)
    name, attacks, n = entry.get("name"), entry.get("attacks"), entry.get("n", "all")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{,199}", name):
        raise InputError(
            f"{where}: name={name!r}: expected at most 200 letters, digits, dots, underscores and hyphens, since it "
            "names a file."
        )
    if name.endswith(".partial"):
        raise InputError(f"{where}: name={name!r}: the ending .partial is for unfinished results; choose another name.")
    if not isinstance(attacks, list) or not all(isinstance(attack, str) for attack in attacks):
        raise InputError(f'{where}: attacks={attacks!r}: expected a list such as ["clean", "pgd-100"].')
    if n != "all" and not (isinstance(n, int) and not isinstance(n, bool) and n >= 1):
        raise InputError(f'{where}: n={n!r}: expected a number of images of at least 1, or "all".')
    images = entry.get("images", "test")
    if images not in ("test", "validation"):
        raise InputError(f'{where}: images={images!r}: expected "test" or "validation".')
    seeds = None if entry.get("seeds") is None else fields.seeds(entry["seeds"], where)
    attacks = [own_code.pin(attack, folder) for attack in attacks]
    threat = None if entry.get("threat") is None else _threat(entry["threat"], where)
    return Suite(
        name=name, attacks=tuple(attacks), n=None if n == "all" else n, images=images, seeds=seeds, threat=threat
    )


def _threat(text: object, where: str) -> ThreatConfig:
    """Return balls such as "Linf:0.3,L2:1.5", in which PGD steps by a tenth of each radius."""
    first, _, others = text.partition(",") if isinstance(text, str) else ("", "", "")
    norm, _, radius = first.partition(":")
    try:
        eps = parse_number(radius)
        threat = ThreatConfig(norm=cast(Norm, norm.strip()), eps=eps, also=others or None, pgd_alpha=eps / 10)
        for one in threat.parts:
            check_usual(one.norm, one.eps, one.norm)
        return threat
    except (ValueError, InputError) as error:
        reason = f" ({error})" if isinstance(error, InputError) else ""
        raise InputError(f'{where}: threat={text!r}: expected balls such as "Linf:0.3,L2:1.5"{reason}.') from None
