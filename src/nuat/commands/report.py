"""``nuat report``."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from nuat.config.arguments import parse
from nuat.errors import InputError
from nuat.files import check_writable, write_text
from nuat.progress import terminal
from nuat.records.search import FoundRuns, find_runs
from nuat.report.page.card import model_card
from nuat.report.page.classes import class_tables
from nuat.report.page.corruptions import corruption_tables
from nuat.report.page.groups import group
from nuat.report.page.html import render
from nuat.report.page.latex import latex
from nuat.report.page.overview import overviews
from nuat.report.page.table import tabulate
from nuat.report.page.text import csv_text, markdown

_BY_SUFFIX = {".html": "html", ".htm": "html", ".md": "markdown", ".csv": "csv", ".tex": "latex"}
_MADE_BY = b'<meta name="generator" content="nuat '
"""Mark in the head of every page that this command writes."""
_HEAD = 2000
"""Bytes at the start of a page that hold the mark."""
_RECORDS = (".json", ".jsonl", ".safetensors", ".pt", ".toml", ".png")
"""Endings of the files in folders of runs. A report never replaces such a file."""


@dataclass(frozen=True, kw_only=True)
class _Report:
    """Show what runs found: one page to send to a colleague, or the tables alone. It reads records and runs nothing."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, of campaigns, or of the results of a model from elsewhere; or folders that hold several of
    these."""
    out: Path | None = None
    """File to write. None: report.html for the page, the screen for the others."""
    format: Literal["auto", "html", "markdown", "csv", "latex", "model-card"] = "auto"
    """html: one page with everything in it, which needs no network. markdown, csv, latex: the tables. model-card: what
    a user of one run's weights must know, in Markdown. auto: as the ending of --out says (.html, .md, .csv, .tex)."""
    force: bool = False
    """Replace an existing file. A page that this command wrote is replaced even without it."""


def report(arguments: list[str]) -> int:
    """``nuat report RUNS... [--out FILE] [--format html|markdown|csv|latex|model-card]``."""
    asked = parse(_Report, arguments, prog="nuat report")
    if asked.out is not None:
        _check_target(asked.out, force=asked.force)
    kind = _kind(asked)
    out = Path("report.html") if asked.out is None and kind == "html" else asked.out
    if asked.out is None and out is not None:
        _check_target(out, force=asked.force)
    if out is None and asked.force:
        raise InputError("--force has no effect on the screen; give --out, or leave it out.")
    found = find_runs(asked.runs)
    text = _text(found, kind)
    console = terminal(stderr=True)
    for path, reason in found.unreadable:
        console.print(f"warning: {path} is left out: {reason}", style="yellow")
    if out is None:
        print(text, end="")
        return 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # a full disk is no mistake in --out
        raise InputError(f"--out {out}: cannot be written ({error.strerror}); choose another --out.") from None
    count = len(found.runs)
    told = f"{out}: {count} run{'' if count == 1 else 's'}, {len(text.encode()) / 1e6:.2f} MB"
    terminal().print(told)
    return 0


def _kind(asked: _Report) -> str:
    if asked.format != "auto":
        implied = None if asked.out is None else _BY_SUFFIX.get(asked.out.suffix.lower())
        if implied not in (None, asked.format, "markdown" if asked.format == "model-card" else None):
            raise InputError(
                f"--out {asked.out}: its ending says {implied}, and --format says {asked.format}; change one of them."
            )
        return asked.format
    if asked.out is None:
        return "html"
    kind = _BY_SUFFIX.get(asked.out.suffix.lower())
    if kind is None:
        raise InputError(
            f"--out {asked.out}: its ending says no format; give --format, or end it in {', '.join(_BY_SUFFIX)}."
        )
    return kind


def _check_target(out: Path, *, force: bool) -> None:
    """Refuse a place that cannot be written to, or that another's file has, before the records are read."""
    if out.suffix.lower() in _RECORDS:
        raise InputError(f"--out {out}: ends like a record of a run; choose another name.")
    try:
        if out.is_dir():
            raise InputError(f"--out {out}: is a folder; name a file in it.")
        check_writable(out.parent, "--out")
        if out.exists() and not force and not _is_ours(out):
            raise InputError(f"--out {out}: exists; choose another --out, or replace it with --force true.")
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise InputError(f"--out {out}: cannot be written ({error.strerror}); choose another --out.") from None


def _is_ours(out: Path) -> bool:
    with out.open("rb") as file:
        return _MADE_BY in file.read(_HEAD)


def _text(found: FoundRuns, kind: str) -> str:
    if kind == "html":
        return render(found)
    if kind == "model-card":
        if len(found.runs) > 1:
            raise InputError(
                f"a model card is of one run, and there are {len(found.runs)}; name one: {found.runs[0].path}."
            )
        if not found.runs[0].trained_here:
            raise InputError(f"a model card is of a run; nuat did not train the model of {found.runs[0].path}.")
        return model_card(found.runs[0])
    groups = group(found.runs)
    tables = [*overviews(groups), *map(tabulate, groups), *class_tables(groups), *corruption_tables(groups)]
    return {"markdown": markdown, "csv": csv_text, "latex": latex}[kind](tables)
