"""Progress of a campaign, read from its folder.

| file | content |
|---|---|
| <method>/seed-<s>/ | the run, as ``nuat train`` writes it |
| <method>/seed-<s>/evaluation-<suite>.json | a suite's results on its best weights |
| <method>/seed-<s>/row.json | the row's record: its figures if it is done, the reason if it failed |
| rates.json | cost of a step and of a pass on this machine, for the forecast |
| table.md | table of the rows that are done |
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from nuat.attacks.catalogue import QUICK
from nuat.campaign.definition import Campaign, CampaignRow, Suite
from nuat.config import DataConfig
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.files import check_writable, write_text
from nuat.records.evaluations import read_evaluation
from nuat.records.folder import RunFolder
from nuat.records.runs import ROW, read_row
from nuat.records.settings import check_same_config, flat, has_effect, to_json

_LATER = ("threat.also", "worst_ball")
"""Settings that older versions did not have; off, they leave the digest as it was."""
Counts = Mapping[DataConfig, Mapping[str, int]]
"""Numbers of ``test`` and ``validation`` images under each data configuration."""


class RowStatus(StrEnum):
    """State of a row."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"  # in another process
    PARTIAL = "half done"
    WAITING = "waiting"


@dataclass(frozen=True)
class QueueEntry:
    """A row as the queue shows it."""

    row: CampaignRow
    status: RowStatus
    seconds: float | None
    """Seconds that it took, or that are left; None: not known."""
    note: str = ""
    """Reason of its failure."""


def settings_digest(row: CampaignRow) -> str:
    """Return a digest of all settings of a row, but for the place where its images lie."""
    settings = {
        name: value
        for name, value in flat(to_json(row.config)).items()
        if has_effect(name, "row") and (value or name not in _LATER)
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class Ledger:
    """The rows of a campaign in the folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates = path / "rates.json"
        self.table = path / "table.md"

    def check(self, campaign: Campaign) -> None:
        """Refuse a folder that cannot be written, or that holds results of other settings under the rows' names.

        Raises:
            InputError: the folder cannot be written, or the run or evaluation of a row has other settings; the first
                is named.
        """
        check_writable(self.path, "--out")
        for row in campaign.rows:
            folder = self.folder(row)
            if not folder.config.is_file():
                continue
            try:
                check_same_config(folder.config, row.config)
            except InputError as error:
                raise InputError(
                    f"{error} Results of different settings are never mixed: give this campaign another --out."
                ) from None
            for suite in row.suites:
                if self.evaluation_file(row, suite).is_file():
                    self._check_suite(row, suite)

    def check_images(self, campaign: Campaign, counts: Counts) -> None:
        """Refuse a suite that asks for more images than there are, or for all, but whose results cover fewer.

        Raises:
            InputError: such a suite; the first is named.
        """
        for row in campaign.rows:
            for suite in row.suites:
                there = counts[row.config.data][suite.images]
                if suite.n is not None and suite.n > there:
                    raise InputError(
                        f"suite {suite.name}: n={suite.n}, but {row.name} has {there} {suite.images} images."
                    )
                path = self.evaluation_file(row, suite)
                if path.is_file() and suite.n is None and (n := self.evaluation(row, suite).n) != there:
                    raise _other(path, "n", n, f"all {there}")

    def folder(self, row: CampaignRow) -> RunFolder:
        """Return the files of a row's run."""
        return RunFolder(self.path / row.name)

    def evaluation_file(self, row: CampaignRow, suite: Suite) -> Path:
        """Return the file of a suite's results on a row."""
        return self.path / row.name / f"evaluation-{suite.name}.json"

    def evaluation(self, row: CampaignRow, suite: Suite) -> Evaluation:
        """Return a suite's results on a row. Raises InputError if the file is damaged."""
        return read_evaluation(self.evaluation_file(row, suite))

    def missing(self, row: CampaignRow) -> tuple[Suite, ...]:
        """Return the suites without results on a row."""
        return tuple(suite for suite in row.suites if not self.evaluation_file(row, suite).is_file())

    def record(self, row: CampaignRow) -> dict[str, Any] | None:
        """Return the row's record; None: there is none that can be read, or it is of other settings."""
        try:
            values = read_row(self._record_file(row))
        except InputError:
            return None  # the row is done again from its run and evaluations, which are kept
        if "status" not in values:
            return None
        # a run of other settings is refused by its config.json; a row may fail before there is one
        stale = values["status"] == "failed" and values.get("settings_sha256") != settings_digest(row)
        return None if stale else values

    def failure(self, row: CampaignRow) -> str | None:
        """Return why a row failed, or why every suite that it lacks, added after it was done, did; None: neither."""
        record = self.record(row)
        if record is None or record["status"] == "failed":
            return None if record is None else str(record["reason"])
        failed: Mapping[str, str] = record.get("failed_suites", {})
        missing = [suite.name for suite in self.missing(row)]
        if not missing or not failed.keys() >= set(missing):
            return None
        return "; ".join(f"{name}: {failed[name]}" for name in missing)

    def write(self, row: CampaignRow, values: dict[str, Any]) -> None:
        """Write the row's record, whole."""
        self.folder(row).path.mkdir(parents=True, exist_ok=True)
        write_text(self._record_file(row), json.dumps(values, indent=1) + "\n")

    def trained(self, row: CampaignRow) -> bool:
        """Return whether the row's training has ended."""
        lines = self.metrics(row)
        return bool(lines) and lines[-1].get("kind") == "end"

    def progress(self, row: CampaignRow) -> float:
        """Return the fraction of the row's training that its last checkpoint holds at least, in [0, 1]."""
        if not self.folder(row).checkpoint.is_file():
            return 0.0
        every = row.config.checkpoint_every
        finished = [line["epoch"] for line in self.metrics(row) if line.get("kind") == "epoch"]
        return max(finished, default=0) // every * every / row.config.epochs

    def status(self, row: CampaignRow) -> RowStatus:
        """Return the state of a row."""
        lock = self.lock(row)
        if Path(lock.lock_file).is_file():
            if not self.try_lock(lock, seconds=0.1):  # reading the queue holds it for an instant, a worker for long
                return RowStatus.RUNNING
            lock.release()
        record = self.record(row)
        if self.failure(row) is not None:
            return RowStatus.FAILED
        if record is not None and not self.missing(row):
            return RowStatus.DONE
        return RowStatus.PARTIAL if self.folder(row).checkpoint.is_file() else RowStatus.WAITING

    def lock(self, row: CampaignRow) -> FileLock:
        """Return the lock that a process holds while it works on a row, so that several can share a campaign."""
        return FileLock(self.path / f"{row.name}.lock")

    @staticmethod
    def try_lock(lock: FileLock, seconds: float = 0.0) -> bool:
        """Take a lock if it becomes free within ``seconds``, and return whether it did."""
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds, poll_interval=0.05)
        except TimeoutError:
            return False
        return True

    def _check_suite(self, row: CampaignRow, suite: Suite) -> None:
        found = self.evaluation(row, suite)
        threat = suite.threat_of(row.config)
        ours = {"attacks": suite.line_up(row.config), "norm": threat.norm, "eps": threat.eps, "also": threat.also}
        ours["seed"] = row.seed
        ran = tuple(result.name for result in found.results)
        if QUICK in suite.attacks and ran == (*suite.attacks, "autoattack"):  # it follows by itself
            ran = suite.attacks
        theirs = {"attacks": ran, "norm": found.norm, "eps": found.eps, "also": found.also, "seed": found.seed}
        if suite.n is not None:
            ours["n"], theirs["n"] = suite.n, found.n
        recorded = ((self.record(row) or {}).get("suites") or {}).get(suite.name, {})
        if "images" in recorded:
            ours["images"], theirs["images"] = suite.images, recorded["images"]
        for name, value in ours.items():
            if theirs[name] != value:
                raise _other(self.evaluation_file(row, suite), name, theirs[name], value)

    def metrics(self, row: CampaignRow) -> list[dict[str, Any]]:
        """Return the lines of the row's metrics; empty if they cannot be read."""
        try:
            return self.folder(row).read_metrics()
        except InputError:
            return []

    def _record_file(self, row: CampaignRow) -> Path:
        return self.path / row.name / ROW


def _other(path: Path, name: str, theirs: object, ours: object) -> InputError:
    return InputError(
        f"{path}: was made with {name}={theirs}, not {ours}. Results of different settings are never mixed: give this "
        "campaign another --out."
    )
