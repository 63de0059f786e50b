"""Run a campaign row by row: finished rows are skipped, half-done ones resumed, failures recorded."""

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator

import torch

from nuat import data, hardware
from nuat.campaign import row_record
from nuat.campaign.definition import Campaign, CampaignRow, Suite
from nuat.campaign.ledger import Ledger, QueueEntry, RowStatus
from nuat.campaign.remaining_time import Forecaster
from nuat.errors import InputError, TransientError
from nuat.evaluation.evaluate import evaluate
from nuat.files import no_space_left
from nuat.progress import Reporter, progress_bars
from nuat.records import checkpoints
from nuat.training.run import run
from nuat.training.signals import Interrupted


class Runner:
    """A campaign in a folder."""

    def __init__(
        self, campaign: Campaign, ledger: Ledger, *, retry_failed: bool = False, reporter: Reporter | None = None
    ) -> None:
        """Check everything that can be checked before hours pass.

        Args:
            campaign: what to run.
            ledger: the folder to run it in.
            retry_failed: whether rows that failed before are tried again.
            reporter: hears what happens.

        Raises:
            InputError: the folder holds results of other settings, the data of a row cannot be read, or a suite asks
                for more images than there are.
        """
        ledger.check(campaign)
        for row in campaign.rows:
            hardware.resolve(row.config.device)
        counts = {}
        for config in dict.fromkeys(row.config.data for row in campaign.rows):
            dataset = data.load(config)
            counts[config] = {"test": len(dataset.test), "validation": len(dataset.validation)}
        ledger.check_images(campaign, counts)
        self.campaign, self.ledger = campaign, ledger
        self.forecaster = Forecaster(ledger, campaign, counts)
        self._retry = retry_failed
        self._reporter = reporter or Reporter()
        self._tried: set[str] = set()

    def queue(self) -> list[QueueEntry]:
        """Return every row with its state."""
        return [self._entry(row) for row in self.campaign.rows]

    def _entry(self, row: CampaignRow) -> QueueEntry:
        status, found = self.ledger.status(row), self.ledger.record(row) or {}
        if status is RowStatus.DONE:
            return QueueEntry(row, status, sum(found["seconds"].values()))
        if status is RowStatus.FAILED:
            return QueueEntry(row, status, None, self.ledger.failure(row) or "")
        return QueueEntry(row, status, self.forecaster.needed(row))

    def learn(self) -> None:
        """Time the first steps of every method that has rows left and no known rate."""
        for row in self.campaign.rows:
            if self._is_open(row) and not self.forecaster.knows(row):
                self._reporter.message(f"timing the first steps of {row.method}")
                with self._failing(row):
                    self.forecaster.learn(row)

    def run(
        self, budget: float | None = None, tell: Callable[[QueueEntry], None] = lambda entry: None
    ) -> list[QueueEntry]:
        """Run the rows that are left, in order, and return the queue at the end.

        Args:
            budget: seconds from now; a row that is forecast to take longer than what is left is not started. None: no
                limit.
            tell: called with each row that ended here.

        Raises:
            InputError: the budget is too small for any row that is left, or the disk is full.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        began = time.monotonic()
        if budget is not None:
            self.learn()
            self._check_budget(budget - (time.monotonic() - began))
        while True:
            left = None if budget is None else budget - (time.monotonic() - began)
            row = next((row for row in self.campaign.rows if self._is_open(row) and self._fits(row, left)), None)
            if row is None:
                return self.queue()
            self._tried.add(row.name)
            lock = self.ledger.lock(row)
            if not self.ledger.try_lock(lock, seconds=1.0):  # reading the queue holds a lock for an instant
                continue
            try:
                if not self._is_settled(row):  # another process may have finished it since
                    self._do(row)
            finally:
                lock.release()
            tell(self._entry(row))

    def _is_open(self, row: CampaignRow) -> bool:
        """Return whether a row is still to be run here."""
        if row.name in self._tried:
            return False
        status = self.ledger.status(row)
        return status in (RowStatus.PARTIAL, RowStatus.WAITING) or (status is RowStatus.FAILED and self._retry)

    def _is_settled(self, row: CampaignRow) -> bool:
        """Return whether nothing is left to do for a row."""
        if self.ledger.failure(row) is not None:
            return not self._retry
        return self.ledger.record(row) is not None and not self.ledger.missing(row)

    def _fits(self, row: CampaignRow, left: float | None) -> bool:
        if left is None:
            return True
        needed = self.forecaster.needed(row)
        return needed is not None and needed <= left

    def _check_budget(self, left: float) -> None:
        needs = [
            (needed, row)
            for row in self.campaign.rows
            if self._is_open(row) and (needed := self.forecaster.needed(row)) is not None
        ]
        if needs and min(needed for needed, _ in needs) > left:
            needed, row = min(needs, key=lambda pair: pair[0])
            raise InputError(
                f"the budget is too small for any row that is left: the shortest, {row.name}, needs about "
                f"{needed:.0f} s and {max(left, 0):.0f} s are left. Give a larger --budget, or none."
            )

    def _do(self, row: CampaignRow) -> None:
        """Train and attack a row, and record the outcome.

        A row that was done keeps its figures whatever becomes of suites that were added to it later.
        """
        before = self.ledger.record(row) or {}
        was_done = before.get("status") == "done"
        failed: dict[str, str] = {} if self._retry else dict(before.get("failed_suites", {}))
        epochs = f"{row.config.epochs} epoch{'s' * (row.config.epochs != 1)}"
        self._reporter.message(f"{row.name}: {epochs}, then {', '.join(s.name for s in row.suites)}")
        try:
            with self._failing(row):
                self._train(row)
                for suite in self.ledger.missing(row):
                    if suite.name in failed:
                        continue
                    try:
                        self._evaluate(row, suite)
                    except Exception as error:
                        if not was_done or _may_pass(error):
                            raise
                        failed[suite.name] = row_record.reason_of(error)
                        self._tell_failure(f"{row.name}, suite {suite.name}", failed[suite.name])
                self.ledger.write(row, row_record.done(self.campaign, self.ledger, row, failed))
        except KeyboardInterrupt as error:
            raise Interrupted(
                getattr(error, "signal_number", signal.SIGINT),
                f"stopped in {row.name}; what is finished is kept in {self.ledger.path}. The same command goes on",
            ) from None

    @contextlib.contextmanager
    def _failing(self, row: CampaignRow) -> Iterator[None]:
        """Record an error in the block as the row's failure, unless it may pass; the campaign goes on.

        A full disk ends the campaign. A row that was done keeps its figures.
        """
        try:
            yield
        except Exception as error:
            if _is_full_disk(error):
                raise
            self._tried.add(row.name)
            if isinstance(error, TransientError):
                text = f"{row.name} is left as it is, and the same command tries it again: {error}"
                self._reporter.message(text, style="bold red")
                return
            values, reason = self.ledger.record(row), row_record.reason_of(error)
            if values is not None and values["status"] == "done":
                values["failed_suites"] = {suite.name: reason for suite in self.ledger.missing(row)}
            else:
                values = row_record.failed(self.campaign, self.ledger, row, error)
            self.ledger.write(row, values)
            self._tell_failure(row.name, reason)

    def _tell_failure(self, name: str, reason: str) -> None:
        self._reporter.message(f"{name} failed: {reason}", style="bold red")

    def _train(self, row: CampaignRow) -> None:
        folder = self.ledger.folder(row)
        if self.ledger.trained(row):
            return
        resume = folder.checkpoint.is_file()
        if folder.path.exists() and not resume:
            # cut off before its first checkpoint, so there is nothing to resume from
            if any(folder.path.glob("evaluation-*.json")):
                raise InputError(f"{folder.path}: holds evaluations, but no finished training; move it away.")
            shutil.rmtree(folder.path)
        run(row.config, out=folder.path, recipe=row.recipe, resume=resume, reporter=self._reporter)

    def _evaluate(self, row: CampaignRow, suite: Suite) -> None:
        folder, config, dataset = self.ledger.folder(row), row.config, data.load(row.config.data)
        model = checkpoints.load(folder.best, device=hardware.resolve(config.device))
        model.to(memory_format=torch.channels_last)
        images = dataset.test if suite.images == "test" else dataset.validation

        with progress_bars(self._reporter) as progress:
            found = evaluate(
                model,
                images,
                suite.attacks,
                threat=suite.threat_of(config),
                n=suite.n,
                seed=config.seed,
                batch_size=config.evaluation.batch_size,
                inspected=True,
                state_path=folder.path / f"evaluation-{suite.name}.partial.json",
                progress=progress,
            )
        found.save(self.ledger.evaluation_file(row, suite))


def _is_full_disk(error: Exception) -> bool:
    return (isinstance(error, OSError) and no_space_left(error)) or "no space left" in str(error)


def _may_pass(error: Exception) -> bool:
    """Return whether a failure says nothing of the row: the disk is full, or a file could not be read just now."""
    return _is_full_disk(error) or isinstance(error, TransientError)
