"""``nuat campaign``: what the command line does with a campaign."""

import dataclasses
import re
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from nuat.campaign.definition import built_in, load
from nuat.campaign.fields import Settings, same_name
from nuat.campaign.ledger import Ledger, QueueEntry, RowStatus
from nuat.campaign.runner import Runner
from nuat.config import TrainConfig
from nuat.config.arguments import parse
from nuat.errors import InputError, did_you_mean
from nuat.files import write_text
from nuat.progress import TerminalReporter, duration, terminal
from nuat.report.campaigns import campaign_markdown, queue_table


@dataclass(frozen=True, kw_only=True)
class _Campaign:
    """Run many recipes, seed by seed, each with the same attacks; give the same command again to go on.

    Any setting of 'nuat train' may follow and holds for every row: --data.path mnist.npz --device cuda.
    """

    campaign: tyro.conf.Positional[str]
    """Name of a campaign, or a TOML file of one."""
    seeds: tuple[int, ...] = ()
    """Seeds of every row. None: those that the campaign names."""
    budget: str = "none"
    """Time from now, such as 90s, 25m or 1h30m: no row is started that would not end within it."""
    out: Path | None = None
    """Folder of the results. None: campaigns/<name> under the current folder."""
    retry_failed: bool = False
    """Whether rows that failed before are tried again."""
    dry_run: bool = False
    """Show the queue and run nothing."""


def campaign(arguments: list[str]) -> int:
    """``nuat campaign NAME|FILE [--seeds 0,1,2] [--budget 25m] [--out DIR] [--any.field VALUE]``."""
    began = time.monotonic()
    if not arguments:
        raise InputError(
            f"say which campaign: {', '.join(built_in())}, or a TOML file; nuat campaign --help says more."
        )
    own, settings = _split(arguments)
    asked = parse(_Campaign, own, prog="nuat campaign")
    budget = None if asked.budget == "none" else parse_duration(asked.budget)
    planned = load(asked.campaign, seeds=asked.seeds or None, settings=settings)
    ledger = Ledger(asked.out or Path("campaigns") / planned.name)
    console = terminal()
    runner = Runner(planned, ledger, retry_failed=asked.retry_failed, reporter=TerminalReporter(console))
    if asked.dry_run:
        _show(console, runner.queue(), ledger)
        return 0
    if budget is not None:
        runner.learn()
        budget -= time.monotonic() - began
    _show(console, runner.queue(), ledger)

    def tell(entry: QueueEntry) -> None:
        write_text(ledger.table, campaign_markdown(planned, ledger))
        took = "" if entry.seconds is None else f" in {duration(entry.seconds)}"
        console.print(f"{entry.row.name}: {entry.status.value}{took} {entry.note}")

    entries = runner.run(budget, tell)
    _show(console, entries, ledger)
    if any(entry.status in (RowStatus.DONE, RowStatus.FAILED) for entry in entries):
        write_text(ledger.table, campaign_markdown(planned, ledger))
        console.print(f"results: {ledger.table}")
    return 1 if any(entry.status is RowStatus.FAILED for entry in entries) else 0


def parse_duration(text: str) -> float:
    """Return the seconds in a text such as 90s, 25m, 1.5h or 1h30m.

    Raises:
        InputError: another text, or no time at all.
    """
    parts = re.fullmatch(r"(?:(\d+\.?\d*)h)?(?:(\d+\.?\d*)m)?(?:(\d+\.?\d*)s)?", text.strip())
    units = (3600.0, 60.0, 1.0)
    seconds = 0.0 if parts is None else sum(float(n) * unit for n, unit in zip(parts.groups("0"), units, strict=True))
    if not seconds > 0:
        raise InputError(f"--budget {text}: expected a time such as 90s, 25m or 1h30m.")
    return seconds


def _split(arguments: list[str]) -> tuple[list[str], Settings]:
    """Return the campaign's own arguments, and the settings of nuat train among the rest."""
    ours = {same_name(field.name): field.default is False for field in dataclasses.fields(_Campaign)}
    ours |= {"help": False, "help-all": False}
    theirs = {same_name(field.name) for field in dataclasses.fields(TrainConfig)}
    own: list[str] = []
    settings: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        plain = same_name(name)
        if not word.startswith("--") or plain in ours:
            own.append(word)
            if word.startswith("--") and ours[plain] and not equals and (not rest or rest[0] not in ("true", "false")):
                own.append("true")
            continue
        if "." not in name and plain not in theirs:
            hint = did_you_mean(plain, [*ours, *theirs])
            raise InputError(f"unknown option --{name}.{hint} ('nuat campaign --help' shows those of campaigns)")
        if not equals:
            if not rest:
                raise InputError(f"{word}: needs a value.")
            value = rest.pop(0)
        settings.append((name, value))
    return own, tuple(settings)


def _show(console: Console, entries: list[QueueEntry], ledger: Ledger) -> None:
    """Print the queue and its remaining time."""
    console.print(queue_table(entries))
    for entry in entries:
        if entry.note:
            console.print(f"{entry.row.name}: {entry.note}", style="red")
    counts = {status: sum(entry.status is status for entry in entries) for status in RowStatus}
    left = [e.seconds for e in entries if e.status in (RowStatus.PARTIAL, RowStatus.WAITING)]
    known = [seconds for seconds in left if seconds is not None]
    need = f"; the {'rest needs' if len(known) == len(left) else 'known ones need'} about {duration(sum(known))}"
    console.print(
        ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
        + (need if known else "")
        + f"; in {ledger.path}",
    )
