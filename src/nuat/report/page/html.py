"""Render the page: one file that fetches nothing."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from nuat import hardware
from nuat.attacks.catalogue import attack_name
from nuat.core.eps import eps_text, threat_text
from nuat.progress import duration
from nuat.records.json_values import visible
from nuat.records.methods import without_folder
from nuat.records.runs import RunRecord
from nuat.records.search import FoundRuns
from nuat.report.page import figure_selection, sparkline
from nuat.report.page.changes import Change, changes, commands, common, own
from nuat.report.page.classes import class_tables
from nuat.report.page.corruptions import corruption_tables
from nuat.report.page.groups import Group, Method, best, group, remarks
from nuat.report.page.overview import overviews
from nuat.report.page.summary import finding, group_sentences, lead, strongest
from nuat.report.page.table import MISSING, Column, Table, interval_text, tabulate

_PICTURES = 1_500_000
"""Bytes of all pictures of a page together."""
_LEAST_PICTURE = 4_000
"""Smallest size of a picture [bytes]: less room is not tried."""
_PICTURE_WIDTH = 1200
"""Largest width of a picture [pixels]. Wider ones are made smaller."""
_OPEN = 4
"""Largest number of runs that a page shows unfolded."""
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class RunView:
    """A run as the page shows it."""

    anchor: str
    run: RunRecord
    method: Method
    facts: Facts
    changes: tuple[Change, ...]
    remarks: tuple[str, ...]
    lines: tuple[sparkline.Line, ...]
    curves: Markup | None
    """Training curves. None: not recorded, or the page has too many runs."""
    picture: tuple[str, int, int] | None
    """Picture of examples as a data URI, with width and height."""
    picture_left_out: bool
    commands: Facts
    settings: Facts
    """Settings that not every run shares."""
    key: str
    """Accuracy under the attack that its group is ranked by."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TableView:
    """A table as the page shows it."""

    anchor: str
    table: Table
    anchors: dict[int, str]
    """By the identity of a run."""

    @property
    def heads(self) -> tuple[tuple[str, tuple[tuple[int, Column], ...]], ...]:
        """Neighbouring columns of one head, each with its place."""
        heads = groupby(enumerate(self.table.columns), key=lambda pair: pair[1].head)
        return tuple((head, tuple(columns)) for head, columns in heads)


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupView(TableView):
    """A group as the page shows it."""

    group: Group
    sentences: str
    finding: str


def render(found: FoundRuns) -> str:
    """Return the page."""
    groups = group(found.runs)
    shared = common(found.runs) if len(found.runs) > 1 else {}
    numbers = {id(run): f"run-{i}" for i, run in enumerate((r for g in groups for r in g.runs), 1)}
    views = [_group_view(one, f"table-{i}", numbers) for i, one in enumerate(groups, 1)]
    script = _resource("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            version=hardware.NUAT_VERSION,
            title=_title(groups),
            days=_days(found.runs),
            lead=lead(groups, len(found.unreadable)),
            found=found,
            groups=views,
            overviews=_table_views(overviews(groups), numbers),
            details=[
                (head, _table_views(tables, numbers))
                for head, tables in (("Classes", class_tables(groups)), ("Corruptions", corruption_tables(groups)))
                if tables
            ],
            figures=figure_selection.of_page(found, groups),
            runs=_run_views(groups, numbers, shared),
            open_runs=len(found.runs) <= _OPEN,
            shared=tuple(shared.items()),
            machines=_machines(found.runs),
            style=Markup(_resource("page.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            missing=MISSING,
            spark_size=(sparkline.WIDTH, sparkline.HEIGHT),
            validated_by=" or ".join(dict.fromkeys(attack_name(run.validate_attack) for run in found.runs)),
        )
    )


def _table_views(tables: Sequence[Table], numbers: dict[int, str]) -> list[TableView]:
    return [
        TableView(anchor=f"{table.name}-{i}", table=table, anchors=numbers) for i, table in enumerate(tables, 1)
    ]  # fmt: skip


def _group_view(one: Group, anchor: str, numbers: dict[int, str]) -> GroupView:
    return GroupView(
        anchor=anchor,
        group=one,
        sentences=" ".join(group_sentences(one)),
        table=tabulate(one),
        finding=finding(one),
        anchors=numbers,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nuat.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"attack": attack_name, "duration": duration, "eps": eps_text, "interval": interval_text}
    environment.globals["identity"] = id
    return environment


def _visible(value: object) -> object:
    """Return a value of the page, control characters in text made visible: names of files may hold any."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _resource(name: str) -> str:
    return (resources.files("nuat.report.page") / "templates" / name).read_text(encoding="utf-8")


def _run_views(groups: Sequence[Group], numbers: dict[int, str], shared: dict[str, str]) -> tuple[RunView, ...]:
    left = _PICTURES
    total = len(numbers)
    views = []
    for one in groups:
        for method in one.methods:
            for run in method.runs:
                anchor = numbers[id(run)]
                picture = None if run.examples is None else _data_uri(run.examples, left)
                # after the first that does not fit no other is tried: making them small takes most of the time
                left = left - len(picture[0]) if picture else 0 if run.examples is not None else left
                views.append(
                    RunView(
                        anchor=anchor,
                        run=run,
                        method=method,
                        facts=_facts(run),
                        changes=changes(run),
                        remarks=remarks(Method(label=method.label, runs=(run,))),
                        lines=sparkline.lines(run),
                        curves=figure_selection.of_training(run, method.label, anchor)
                        if total <= figure_selection.MOST_CURVES
                        else None,
                        picture=picture,
                        picture_left_out=run.examples is not None and picture is None,
                        commands=commands(run),
                        settings=tuple(own(run, shared).items()),
                        key=_key(one, run),
                    )
                )
    return tuple(views)


def _key(one: Group, run: RunRecord) -> str:
    column = strongest(one)
    found = None if column is None else best(run, column)
    return "" if found is None else f"{found.label} {found.percent:.2f} %"


def _facts(run: RunRecord) -> Facts:
    """Return the facts of a run's training, as far as they were recorded."""
    config, environment, end = run.config, run.environment, run.end
    facts: list[tuple[str, object]] = [("Recipe", run.recipe)]
    if config:
        defense = config["defense"].get("class")
        facts += [
            ("Defense", defense),
            ("Data", _data(run)),
            ("Network", run.network),
            ("Threat model", threat_text(run.norm, float(config["threat"]["eps"]), run.also)),
            ("Epochs", f"{config['epochs']}" + (f", best {end['best_epoch']}" if end else "")),
            ("Batch size", config.get("batch_size")),
            ("Weight averaging", run.averaging),
            ("Precision", config.get("precision")),
        ]
    facts.append(("Seed", run.seed))
    if end:
        millions = f"{end['forwards'] / 1e6:.2f} M images forward, {end['backwards'] / 1e6:.2f} M backward"
        facts.append(("Training", f"{duration(end['seconds'])}; {millions}"))
    packages = environment.get("packages") or {}
    versions = [("nuat", environment.get("nuat")), ("torch", packages.get("torch")), ("git", environment.get("git"))]
    facts += [
        ("Hardware", environment.get("hardware")),
        ("Started", environment.get("started")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions if value)),
        ("Resumed", f"{run.resumed} time{'' if run.resumed == 1 else 's'}" if run.resumed else None),
        ("Folder", run.called),
    ]
    return tuple((name, str(value)) for name, value in facts if value not in (None, ""))


def _data(run: RunRecord) -> str:
    data, source = run.config["data"], run.source
    name = source.get("source") or data.get("path") or data["name"]
    limit = data.get("train_limit")
    told = []
    if source.get("train"):
        told.append(f"{source['train']:,} training images")
    elif limit:
        told.append(f"{limit:,} training images")
    if source.get("test"):
        told.append(f"{source['test']:,} test images")
    return ", ".join([without_folder(str(name)), *told])


def _title(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return groups[0].setting.campaign or groups[0].setting.title
    return "Adversarial robustness"


def _days(runs: Sequence[RunRecord]) -> str:
    """Return the days on which the runs were started: of the records, so that the same records give the same page."""
    days = sorted({str(run.environment["started"])[:10] for run in runs if run.environment.get("started")})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _machines(runs: Sequence[RunRecord]) -> tuple[tuple[str, ...], tuple[tuple[tuple[str, ...], int], ...]]:
    """Return the fields recorded of the environments, and each environment with its number of runs."""
    found = []
    for run in runs:
        whole = run.environment
        packages = whole.get("packages") or {}
        facts = {name: whole.get(name) for name in ("hardware", "system", "cuda", "python", "nuat", "git")} | packages
        found.append({name: str(value) for name, value in facts.items() if value} if whole else {})
    names = tuple(dict.fromkeys(name for facts in found for name in facts))
    counts = Counter(tuple(facts.get(name, MISSING) for name in names) for facts in found)
    return names, tuple(counts.most_common())


def _data_uri(path: Path, most: int) -> tuple[str, int, int] | None:
    """Return a picture as a data URI of at most ``most`` bytes, with its width and height.

    None: it does not fit, or the file is not a picture. The page then says that there is none to show.
    """
    if most < _LEAST_PICTURE:
        return None
    try:
        with Image.open(path, formats=["PNG"]) as file:
            picture = file.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    if picture.width > _PICTURE_WIDTH:
        picture = picture.resize(
            (_PICTURE_WIDTH, max(1, round(picture.height * _PICTURE_WIDTH / picture.width))), Image.Resampling.LANCZOS
        )
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=2)
    text = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
    return (text, picture.width, picture.height) if len(text) <= most else None
