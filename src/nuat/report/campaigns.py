"""Tables of a campaign: the queue for the terminal, and the results in Markdown with the paper's numbers."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nuat import paper
from nuat.attacks.catalogue import QUICK, WORST_CASE
from nuat.campaign.definition import Campaign, CampaignRow, Suite
from nuat.campaign.ledger import Ledger, QueueEntry, RowStatus
from nuat.core.eps import threat_text
from nuat.core.intervals import wilson_interval
from nuat.evaluation.results import black_box_note
from nuat.progress import duration
from nuat.report.escaping import escape_markdown
from nuat.report.page.groups import alarm_texts

_STYLES = {
    RowStatus.DONE: "green",
    RowStatus.FAILED: "bold red",
    RowStatus.RUNNING: "cyan",
    RowStatus.PARTIAL: "yellow",
}


@dataclass(frozen=True)
class _RowName:
    """Name of a row as a cell. A name that is too long for one line is broken after underscores."""

    name: str

    @property
    def _parts(self) -> list[str]:
        return re.findall("[^_]*_|[^_]+", self.name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(map(len, self._parts)), len(self.name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [""]
        for part in self._parts:
            lines += [""] if lines[-1] and len(lines[-1] + part) > options.max_width else []
            lines[-1] += part
        yield Text("\n".join(lines), overflow="fold")


def queue_table(entries: Iterable[QueueEntry]) -> Table:
    """Return the rows with their state and the time that they took or need."""
    table = Table(box=None, pad_edge=False)
    for name in ("row", "seed", "status", "time"):
        table.add_column(name, justify="right" if name in ("seed", "time") else "left", no_wrap=name != "row")
    for entry in entries:
        about = "" if entry.status is RowStatus.DONE else "~"
        time = "?" if entry.seconds is None else about + duration(entry.seconds)
        style = _STYLES.get(entry.status, "")
        told = "" if entry.status is RowStatus.FAILED else time
        table.add_row(_RowName(entry.row.method), str(entry.row.seed), entry.status.value, told, style=style)
    return table


def campaign_markdown(campaign: Campaign, ledger: Ledger) -> str:
    """Return the rows that are done as a Markdown table: a line a method, in the campaign's order.

    Several seeds: mean and standard deviation over them. One seed: the accuracy with its 95 % interval over images.
    A missing measurement is a dash.
    """
    methods: dict[str, list[tuple[CampaignRow, dict[str, Any]]]] = {}
    failed: list[str] = []
    for row in campaign.rows:
        record = ledger.record(row)
        if record is not None and record["status"] == "done":
            methods.setdefault(row.method, []).append((row, record))
        if (reason := ledger.failure(row)) is not None:
            failed.append(f"- {escape_markdown(f'{row.name}: {reason}')}")
    suites = {suite.name: suite for row in campaign.rows for suite in row.suites}
    measured = [record for rows in methods.values() for _, record in rows]
    columns = [(name, attack) for name, suite in suites.items() for attack in _columns(campaign, suite, measured)]
    theirs = {} if campaign.table is None else {row.recipe: row.values for row in paper.table(campaign.table)}
    quantities = [
        q
        for q in dict.fromkeys(q for values in theirs.values() for q in values)
        if not q.endswith("epochs") and not q.startswith("#")
    ]
    heads = [
        "method",
        "seeds",
        *(_head(attack, suites[name].n, suites[name].images) for name, attack in columns),
        *(f"paper: {quantity}" for quantity in quantities),
        "images forward (M)",
        "images backward (M)",
        "training (s)",
    ]
    lines = [_line(heads), _line(["---", "---", *["---:"] * (len(heads) - 2)])]
    for rows in methods.values():
        records = [record for _, record in rows]
        lines.append(
            _line(
                [
                    rows[0][0].label,
                    ", ".join(str(row.seed) for row, _ in rows),
                    *(_accuracy(records, *column) for column in columns),
                    *(_paper(theirs.get(rows[0][0].recipe, {}), quantity) for quantity in quantities),
                    f"{statistics.fmean(r['forwards'] for r in records) / 1e6:.2f}",
                    f"{statistics.fmean(r['backwards'] for r in records) / 1e6:.2f}",
                    f"{statistics.fmean(r['seconds']['training'] for r in records):.0f}",
                ]
            )
        )
    hardware = sorted({record["hardware"] for rows in methods.values() for _, record in rows})
    versions = sorted({_versions(record) for rows in methods.values() for _, record in rows})
    done = sum(len(rows) for rows in methods.values())
    trained = [row.config.threat for row in campaign.rows if any(suite.threat is None for suite in row.suites)]
    balls = dict.fromkeys(threat_text(threat.norm, threat.eps, threat.also) for threat in trained)
    within = f", {'; '.join(balls)}" if balls else ""
    notes = [
        f"Accuracy in %{within}; {done} of {len(campaign.rows)} rows are done. Several seeds: mean "
        "+- standard deviation over seeds; one seed: 95 % interval over images. Forward and backward count images in "
        "training.",
        escape_markdown(f"Measured on: {'; '.join(hardware) or '-'}. {'; '.join(versions)}"),
    ]
    notes += [
        escape_markdown(f"Suite {name}: {threat_text(suite.threat.norm, suite.threat.eps, suite.threat.also)}.")
        for name, suite in suites.items()
        if suite.threat is not None
    ]
    notes += [
        escape_markdown(f"Suite {name}: {note}.")
        for name, suite in suites.items()
        if (note := black_box_note(suite.attacks))
    ]
    followed = [
        f"{row.name} ({name})"
        for name, suite in suites.items()
        if QUICK in suite.attacks and "autoattack" not in suite.attacks
        for rows in methods.values()
        for row, record in rows
        if _followed(record, name)
    ]
    if followed:
        told = f"{QUICK} is not to be believed in these rows, where AutoAttack followed it: {', '.join(followed)}."
        notes.append(escape_markdown(told))
    alarmed = [
        f"- {escape_markdown(f'{row.name}: {text}')}"
        for rows in methods.values()
        for row, record in rows
        for text in alarm_texts(record.get("alarms", ()))
    ]
    if alarmed:
        notes += ["Alarms of the monitors:", "\n".join(alarmed)]
    if failed:
        notes += ["Failed:", "\n".join(failed)]
    return f"# {escape_markdown(campaign.name)}\n\n" + "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def _versions(record: Mapping[str, Any]) -> str:
    return f"nuat {record.get('nuat', 'unknown')}, torch {record.get('packages', {}).get('torch', 'unknown')}"


def _columns(campaign: Campaign, suite: Suite, records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of a suite's accuracies in each ball, with the worst case if there are several attacks."""
    configs = [row.config for row in campaign.rows if suite in row.suites]
    attacks = tuple(dict.fromkeys(name for config in configs for name in suite.line_up(config)))
    if QUICK in attacks and "autoattack" not in attacks and any(_followed(record, suite.name) for record in records):
        attacks = (*attacks, "autoattack")
    several = len([attack for attack in attacks if attack != "clean"]) > 1
    return (*attacks, WORST_CASE) if several else attacks


def _followed(record: Mapping[str, Any], suite: str) -> bool:
    """Return whether AutoAttack ran in a suite of a row, by itself if the suite does not name it."""
    return "autoattack" in record["suites"].get(suite, {}).get("accuracies", {})


def _head(attack: str, n: int | None, images: str) -> str:
    where = "" if images == "test" else f" {images}"
    return f"{attack}{where}" if n is None else f"{attack}{where}, n {n:,}"


def _accuracy(records: Sequence[Mapping[str, Any]], suite: str, attack: str) -> str:
    """Return the mean of an accuracy over the records that have it, with its deviation or interval."""
    found = [r["suites"][suite] for r in records if attack in r["suites"].get(suite, {}).get("accuracies", {})]
    values = [100 * entry["accuracies"][attack] for entry in found]
    if not values:
        return "-"
    if len(values) == 1:
        n = found[0]["n"]
        low, high = wilson_interval(round(values[0] / 100 * n), n)
        return f"{values[0]:.2f} ({100 * low:.1f}-{100 * high:.1f})"
    return f"{statistics.fmean(values):.2f} +- {statistics.stdev(values):.2f}"


def _paper(values: Mapping[str, float], quantity: str) -> str:
    return f"{values[quantity]:.2f}" if quantity in values else "-"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"
