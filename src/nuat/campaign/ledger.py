"""What a campaign has done so far, read off its folder.

| file | content |
|---|---|
| <method>/seed-<s>/ | the run, as ``nuat train`` leaves it |
| <method>/seed-<s>/evaluation-<suite>.json | what its best weights withstand |
| <method>/seed-<s>/row.json | the row's record: done with its figures, or failed with the reason |
| rates.json | what a step and a pass cost here, for the forecast |
| table.md | the rows that are done |
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from nuat.campaign.plan import Campaign, Row, Suite
from nuat.errors import InputError
from nuat.files import write_text
from nuat.records import RunFolder, check_same_config
from nuat.results import Evaluation


class Status(StrEnum):
    """Where a row stands."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"  # another process works on it
    PARTIAL = "half done"
    WAITING = "waiting"


class Ledger:
    """The rows of a campaign in the folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates = path / "rates.json"
        self.table = path / "table.md"

    def check(self, campaign: Campaign) -> None:
        """Refuse a folder that holds results of other settings under the names of this campaign's rows.

        Raises:
            InputError: the folder is a file, or a row's run or evaluation has other settings; the first is named.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file, not a folder; choose another --out.")
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

    def folder(self, row: Row) -> RunFolder:
        """Return the files of a row's run."""
        return RunFolder(self.path / row.name)

    def evaluation_file(self, row: Row, suite: Suite) -> Path:
        """Return where a suite's results on a row lie."""
        return self.path / row.name / f"evaluation-{suite.name}.json"

    def evaluation(self, row: Row, suite: Suite) -> Evaluation:
        """Return a suite's results on a row."""
        path = self.evaluation_file(row, suite)
        try:
            return Evaluation.from_json(json.loads(path.read_text()))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            raise InputError(f"{path}: damaged; remove it to attack that row again.") from None

    def missing(self, row: Row) -> tuple[Suite, ...]:
        """Return the suites that a row's weights have not been attacked with."""
        return tuple(suite for suite in row.suites if not self.evaluation_file(row, suite).is_file())

    def record(self, row: Row) -> dict[str, Any] | None:
        """Return the row's record, or none."""
        path = self._record_file(row)
        try:
            values = json.loads(path.read_text())
            return values if isinstance(values, dict) and "status" in values else None
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None  # a row without a readable record is looked at again; its run and evaluations are kept

    def write(self, row: Row, values: dict[str, Any]) -> None:
        """Write the row's record, whole."""
        write_text(self._record_file(row), json.dumps(values, indent=1) + "\n")

    def trained(self, row: Row) -> bool:
        """Return whether the row's training has ended."""
        lines = self._metrics(row)
        return bool(lines) and lines[-1].get("kind") == "end"

    def progress(self, row: Row) -> float:
        """Return the fraction of the row's training from which it would go on, in [0, 1]."""
        if not self.folder(row).checkpoint.is_file():
            return 0.0
        finished = [line["epoch"] for line in self._metrics(row) if line.get("kind") == "epoch"]
        return max(finished, default=0) / row.config.epochs

    def status(self, row: Row) -> Status:
        """Return where a row stands."""
        lock = self.lock(row)
        if Path(lock.lock_file).is_file():
            if not self.try_lock(lock):
                return Status.RUNNING
            lock.release()
        record = self.record(row)
        if record is not None and record["status"] == "failed":
            return Status.FAILED
        if record is not None and self.trained(row) and not self.missing(row):
            return Status.DONE
        return Status.PARTIAL if self.folder(row).checkpoint.is_file() else Status.WAITING

    def lock(self, row: Row) -> FileLock:
        """Return the lock that a process holds while it works on a row, so that several share a campaign."""
        return FileLock(self.path / f"{row.name}.lock")

    @staticmethod
    def try_lock(lock: FileLock, seconds: float = 0.0) -> bool:
        """Take a lock if it is free within ``seconds``, and return whether it was."""
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds, poll_interval=0.05)
        except TimeoutError:
            return False
        return True

    def _check_suite(self, row: Row, suite: Suite) -> None:
        found = self.evaluation(row, suite)
        ours = {"attacks": suite.attacks, "eps": row.config.threat.eps, "seed": row.seed}
        theirs = {"attacks": tuple(r.name for r in found.results), "eps": found.eps, "seed": found.seed}
        if suite.n is not None:
            ours["n"], theirs["n"] = suite.n, found.n
        for name, value in ours.items():
            if theirs[name] != value:
                raise InputError(
                    f"{self.evaluation_file(row, suite)}: was made with {name}={theirs[name]}, not {value}. Results of "
                    "different settings are never mixed: give this campaign another --out."
                )

    def _metrics(self, row: Row) -> list[dict[str, Any]]:
        folder = self.folder(row)
        try:
            return folder.read_metrics() if folder.metrics.is_file() else []
        except (json.JSONDecodeError, UnicodeDecodeError):
            return []  # half a line: the run was cut off, and resuming drops it

    def _record_file(self, row: Row) -> Path:
        return self.path / row.name / "row.json"
