"""Forecast the time of a row from its first steps on this machine, or from rows that are done.

Costs are kept in the campaign's ``rates.json`` under the hardware that they were measured on. A forecast that rests on
counted passes takes the most that an attack can cost (AutoAttack when every image withstands it, even where it only may
follow autoattack-quick), so that a budget is kept; a finished row replaces it.
"""

import contextlib
import hashlib
import itertools
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from nuat import hardware
from nuat.attacks import PGD, eval_mode
from nuat.attacks.catalogue import attack_passes
from nuat.campaign.definition import Campaign, CampaignRow, Suite
from nuat.campaign.ledger import Counts, Ledger
from nuat.config import TrainConfig
from nuat.data import to_float
from nuat.files import write_text
from nuat.records.settings import to_json
from nuat.training.rehearsal import go_to, rehearsal, wait
from nuat.training.run import Loop
from nuat.training.validation import is_validated

MARGIN = 1.1
"""Factor on every forecast."""
_PROBE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured speed of one row on this machine."""

    training: float
    """Seconds of the whole training, without validation."""
    passes: float
    """Seconds of a forward and backward pass of an attack, per image."""


class Forecaster:
    """Forecasts of a campaign's rows on this machine."""

    def __init__(self, ledger: Ledger, campaign: Campaign, counts: Counts) -> None:
        self._ledger, self._campaign, self._counts = ledger, campaign, counts
        self._hardware = hardware.describe(hardware.resolve(campaign.rows[0].config.device))
        self._rates = self._read()

    def knows(self, row: CampaignRow) -> bool:
        """Return whether the rate of a row's method, with its settings, is known."""
        return _key(row) in self._rates

    def learn(self, row: CampaignRow) -> None:
        """Time the first steps of a row's method, unless that is known."""
        if not self.knows(row):
            self._rates = {**self._read(), **self._rates, _key(row): measure(row)}
            ours = {self._hardware: {name: asdict(rates) for name, rates in self._rates.items()}}
            self._ledger.path.mkdir(parents=True, exist_ok=True)
            write_text(self._ledger.rates, json.dumps({**self._everything(), **ours}, indent=1) + "\n")

    def needed(self, row: CampaignRow) -> float | None:
        """Return the seconds that are left of a row. None: its rate is not known yet."""
        rates = self._rates.get(_key(row))
        parts: list[float | None] = []
        if not self._ledger.trained(row):
            whole = self._seen("training", row.method)
            if rates is not None:
                # a finished row's seconds do not count its validation either
                whole = (rates.training if whole is None else whole) + rates.passes * self._validation(row)
            parts.append(None if whole is None else whole * (1.0 - self._ledger.progress(row)))
        for suite in self._ledger.missing(row):
            seen = self._seen(suite.name, row.method if _adapts(suite) else None)
            most = None if rates is None else rates.passes * _passes(suite, row.config, self._counts)
            parts.append(most if seen is None else seen)
        known = [part for part in parts if part is not None]
        return MARGIN * sum(known) if len(known) == len(parts) else None

    def _seen(self, part: str, method: str | None) -> float | None:
        """Return the longest that a part took in a finished row (of a method) on this hardware, or none."""
        found = [
            record["seconds"][part]
            for row in self._campaign.rows
            if (method is None or row.method == method)
            and (record := self._ledger.record(row)) is not None
            and record["status"] == "done"
            and hardware.hardware_text(record["hardware"]) == self._hardware
            and part in record["seconds"]
        ]
        return max(found, default=None)

    def _validation(self, row: CampaignRow) -> int:
        """Return the passes of a row's validation, over all epochs."""
        models, epochs = 1 + len(row.config.averaging.taus), row.config.epochs
        validated = sum(is_validated(epoch, epochs, row.config.validate_every or 1) for epoch in range(1, epochs + 1))
        # in each ball, with clean, FGSM and its verdict
        passes = len(row.config.threat.parts) * (attack_passes((row.config.validate_attack,)) + 4)
        return validated * passes * models * self._counts[row.config.data]["validation"]

    def _read(self) -> dict[str, Rates]:
        """Return the rates in the file that were measured on this hardware."""
        found: dict[str, Rates] = {}
        ours = self._everything().get(self._hardware)
        for name, values in ours.items() if isinstance(ours, dict) else ():
            with contextlib.suppress(TypeError):
                rates = Rates(**values)
                if min(rates.training, rates.passes) >= 0.0:
                    found[name] = rates
        return found

    def _everything(self) -> dict[str, Any]:
        try:
            values = json.loads(self._ledger.rates.read_text())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return {}  # it holds nothing that cannot be measured again
        return values if isinstance(values, dict) else {}


def _key(row: CampaignRow) -> str:
    """Return a name for what the rates of a row depend on: all its settings but the seed."""
    settings = json.dumps(to_json(replace(row.config, seed=0)))
    return f"{row.method} {hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def _adapts(suite: Suite) -> bool:
    """Return whether a suite costs less on a weaker model, as AutoAttack skips images that are broken already."""
    return any(name.startswith("autoattack") for name in suite.attacks)


def measure(row: CampaignRow) -> Rates:
    """Time a few steps of a row's training and of an attack on its network, and leave nothing behind.

    The steps are those of the last epoch, where ramps have ended and warm-ups are over.
    """
    # weights that have not been trained may diverge at the ramps' end, which is nothing to time
    config = replace(row.config, monitors=replace(row.config.monitors, on_nonfinite="skip"))
    with rehearsal(config, row.recipe, hardware.resolve(config.device)) as loop:
        passes = _attack_pass(loop, row)  # before the steps: an attack cannot climb a model that has diverged
        go_to(loop, row.config.epochs - 1)
        batches = itertools.islice(loop.epoch(), 200)
        first = next(batches)
        loop.train_batches([first])  # what the first call alone costs
        wait(loop.device)
        began, done = time.perf_counter(), 0
        for batch in itertools.chain(batches, (first,)):
            loop.train_batches([batch])
            done += 1
            wait(loop.device)
            if time.perf_counter() - began > _PROBE_SECONDS:
                break
        seconds = (time.perf_counter() - began) / done
        return Rates(training=row.config.epochs * seconds * loop.batches, passes=passes)


def _attack_pass(loop: Loop, row: CampaignRow) -> float:
    """Return the seconds that an image's forward and backward pass takes in an attack."""
    images = loop.dataset.test.select(torch.arange(min(row.config.evaluation.batch_size, len(loop.dataset.test))))
    x, y = to_float(images.images), images.labels
    threat, model = row.config.threat, loop.state.model
    with eval_mode(model), hardware.full_precision():
        PGD(model, eps=threat.eps, norm=threat.norm, alpha=threat.pgd_alpha, steps=1).perturb(x, y)
        wait(loop.device)
        began, steps = time.perf_counter(), 0
        while steps < 1000 and time.perf_counter() - began < _PROBE_SECONDS / 3:
            PGD(model, eps=threat.eps, norm=threat.norm, alpha=threat.pgd_alpha, steps=5).perturb(x, y)
            wait(loop.device)
            steps += 5
        return (time.perf_counter() - began) / (steps * len(y))


def _passes(suite: Suite, config: TrainConfig, counts: Counts) -> int:
    """Return the largest number of passes of a suite on a model of these settings."""
    return attack_passes(suite.line_up(config)) * (suite.n or counts[config.data][suite.images])
