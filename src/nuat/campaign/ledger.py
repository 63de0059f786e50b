"""What a campaign has done so far, read off its folder.

| file | content |
|---|---|
| <method>/seed-<s>/ | the run, as ``nuat train`` leaves it |
| <method>/seed-<s>/evaluation-<suite>.json | what its best weights withstand |
| <method>/seed-<s>/row.json | the row's record: done with its figures, or failed with the reason |
| rates.json | what a step and a pass cost here, for the forecast |
| table.md | the rows that are done |
"""

import hashlib
import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock

from nuat.campaign.plan import Campaign, Row, Suite
from nuat.config import DataConfig
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.files import write_text
from nuat.records.evaluations import read_evaluation
from nuat.records.folder import RunFolder
from nuat.records.settings import check_same_config, to_json

Counts = Mapping[DataConfig, Mapping[str, int]]
"""Images in the parts ``test`` and ``validation`` of what each data setting reads."""
_RECORD = {"done": {"seconds", "suites", "hardware", "forwards", "backwards", "nuat", "packages"}, "failed": {"reason"}}
"""What a record of each status holds at least."""


class Status(StrEnum):
    """Where a row stands."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"  # another process works on it
    PARTIAL = "half done"
    WAITING = "waiting"


def settings_digest(row: Row) -> str:
    """Return a digest of all settings of a row."""
    settings: dict[str, Any] = to_json(row.config)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class Ledger:
    """The rows of a campaign in the folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates = path / "rates.json"
        self.table = path / "table.md"

    def check(self, campaign: Campaign) -> None:
        """Refuse a folder that holds results of other settings under the names of this campaign's rows.

        Raises:
            InputError: no such folder can be written, or a row's run or evaluation has other settings; the first is
                named.
        """
        there = next(path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise InputError(f"{self.path}: {there.name} is a file, not a folder; choose another --out.")
        if not os.access(there, os.W_OK):
            raise InputError(f"{self.path}: nothing can be written there; choose another --out.")
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
        """Refuse a suite that asks for more images than there are, or whose results are of fewer than all.

        Raises:
            InputError: the first such suite.
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

    def folder(self, row: Row) -> RunFolder:
        """Return the files of a row's run."""
        return RunFolder(self.path / row.name)

    def evaluation_file(self, row: Row, suite: Suite) -> Path:
        """Return where a suite's results on a row lie."""
        return self.path / row.name / f"evaluation-{suite.name}.json"

    def evaluation(self, row: Row, suite: Suite) -> Evaluation:
        """Return a suite's results on a row."""
        return read_evaluation(self.evaluation_file(row, suite))

    def missing(self, row: Row) -> tuple[Suite, ...]:
        """Return the suites that a row's weights have not been attacked with."""
        return tuple(suite for suite in row.suites if not self.evaluation_file(row, suite).is_file())

    def record(self, row: Row) -> dict[str, Any] | None:
        """Return the row's record, or none."""
        path = self._record_file(row)
        try:
            values = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None  # a row without a readable record is looked at again; its run and evaluations are kept
        needed = _RECORD.get(str(values.get("status"))) if isinstance(values, dict) else None
        if needed is None or not needed <= values.keys():
            return None
        # a run of other settings is refused by its config.json; a row may fail before there is one
        stale = values["status"] == "failed" and values.get("settings_sha256") != settings_digest(row)
        return None if stale else values

    def write(self, row: Row, values: dict[str, Any]) -> None:
        """Write the row's record, whole."""
        write_text(self._record_file(row), json.dumps(values, indent=1) + "\n")

    def trained(self, row: Row) -> bool:
        """Return whether the row's training has ended."""
        lines = self.metrics(row)
        return bool(lines) and lines[-1].get("kind") == "end"

    def progress(self, row: Row) -> float:
        """Return the fraction of the row's training from which it would go on at least, in [0, 1]."""
        if not self.folder(row).checkpoint.is_file():
            return 0.0
        every = row.config.checkpoint_every
        finished = [line["epoch"] for line in self.metrics(row) if line.get("kind") == "epoch"]
        return max(finished, default=0) // every * every / row.config.epochs

    def status(self, row: Row) -> Status:
        """Return where a row stands."""
        lock = self.lock(row)
        if Path(lock.lock_file).is_file():
            if not self.try_lock(lock, seconds=0.1):  # another look holds it for an instant, a worker for long
                return Status.RUNNING
            lock.release()
        record = self.record(row)
        if record is not None and record["status"] == "failed":
            return Status.FAILED
        if record is not None and not self.missing(row):
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
        recorded = ((self.record(row) or {}).get("suites") or {}).get(suite.name, {})
        if "images" in recorded:
            ours["images"], theirs["images"] = suite.images, recorded["images"]
        for name, value in ours.items():
            if theirs[name] != value:
                raise _other(self.evaluation_file(row, suite), name, theirs[name], value)

    def metrics(self, row: Row) -> list[dict[str, Any]]:
        """Return the lines of the row's metrics; none where they cannot be read."""
        folder = self.folder(row)
        try:
            return folder.read_metrics() if folder.metrics.is_file() else []
        except (json.JSONDecodeError, UnicodeDecodeError):
            return []  # half a line: the run was cut off, and resuming drops it

    def _record_file(self, row: Row) -> Path:
        return self.path / row.name / "row.json"


def _other(path: Path, name: str, theirs: object, ours: object) -> InputError:
    return InputError(
        f"{path}: was made with {name}={theirs}, not {ours}. Results of different settings are never mixed: give this "
        "campaign another --out."
    )
