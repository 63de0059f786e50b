"""How long a row takes: from its first steps on this machine, or from rows that are done.

Costs are kept in the campaign's ``rates.json`` under the hardware that they were measured on. A forecast that rests on
counted passes takes the most that an attack can cost (AutoAttack when every image withstands it), so that a budget is
kept; a finished row replaces it.
"""

import itertools
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nuat import data, hardware
from nuat.attacks import PGD, eval_mode
from nuat.campaign.ledger import Ledger
from nuat.campaign.plan import Campaign, Row, Suite
from nuat.data import to_float
from nuat.files import write_text
from nuat.progress import Reporter
from nuat.records import RunFolder
from nuat.training import Loop
from nuat.validation import PGD_STEPS

MARGIN = 1.1
"""Factor on every forecast."""
_PROBE_SECONDS = 3.0
_PASSES = {"clean": 1, "fgsm": 2, "rfgsm": 2, "nuclear": 3, "nuclear-2": 4, "autoattack": 5400, "autoattack-v1": 4600}
"""Forward and backward passes an image, at most; pgd-<n> and gama-<n> take n. AutoAttack: APGD 100 steps, its targeted
forms and FAB 9 x 100, Square 5,000 queries at half a pass each."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one row's parts cost on this machine."""

    training: float
    """Seconds of its training, validation included."""
    passes: float
    """Seconds of a forward and backward pass of an attack, per image."""


class Forecaster:
    """Forecasts of a campaign's rows on this machine."""

    def __init__(self, ledger: Ledger, campaign: Campaign) -> None:
        self._ledger, self._campaign = ledger, campaign
        self._hardware = hardware.describe(hardware.resolve(campaign.rows[0].config.device))
        self._rates = {name: Rates(**values) for name, values in self._read().get(self._hardware, {}).items()}

    def learn(self, row: Row) -> None:
        """Time the first steps of a row's method, unless that is known."""
        if row.method not in self._rates:
            self._rates[row.method] = measure(row)
            everything = {**self._read(), self._hardware: {name: asdict(r) for name, r in self._rates.items()}}
            self._ledger.path.mkdir(parents=True, exist_ok=True)
            write_text(self._ledger.rates, json.dumps(everything, indent=1) + "\n")

    def needed(self, row: Row) -> float | None:
        """Return the seconds that are left of a row; none where its rate is not known yet."""
        rates = self._rates.get(row.method)
        if rates is None:
            return None
        seconds = 0.0
        if not self._ledger.trained(row):
            whole = self._seen(row.method, "training") or rates.training
            seconds = whole * (1.0 - self._ledger.progress(row))
        for suite in self._ledger.missing(row):
            seconds += self._seen(None, suite.name) or rates.passes * _passes(suite, row)
        return MARGIN * seconds

    def _seen(self, method: str | None, part: str) -> float | None:
        """Return the longest that a part took in a finished row (of a method) on this hardware, or none."""
        found = [
            record["seconds"][part]
            for row in self._campaign.rows
            if (method is None or row.method == method)
            and (record := self._ledger.record(row)) is not None
            and record["status"] == "done"
            and record["hardware"] == self._hardware
            and part in record["seconds"]
        ]
        return max(found, default=None)

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._ledger.rates.read_text())
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return {}  # it holds nothing that cannot be measured again
        return values if isinstance(values, dict) else {}


def measure(row: Row) -> Rates:
    """Time a few steps of a row's training and of an attack on its network, and leave nothing behind.

    The steps are those of the last epoch, where ramps have ended and warm-ups are over.
    """
    # weights that have not been trained may diverge at the ramps' end, which is nothing to time
    config = replace(row.config, monitors=replace(row.config.monitors, on_nonfinite="skip"))
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(config, RunFolder(Path(folder)), row.recipe, hardware.resolve(config.device), Reporter())
        loop.state.epoch = row.config.epochs - 1
        batches = itertools.islice(loop.epoch(), 200)
        loop.train_batch(next(batches))  # what the first call alone costs
        _wait(loop.device)
        began, done = time.perf_counter(), 0
        for batch in batches:
            loop.train_batch(batch)
            done += 1
            _wait(loop.device)
            if time.perf_counter() - began > _PROBE_SECONDS:
                break
        seconds = (time.perf_counter() - began) / max(done, 1)
        passes = _attack_pass(loop, row)
        validated = (PGD_STEPS + 5) * len(loop.dataset.validation) * (1 if row.config.averaging.tau is None else 2)
        return Rates(training=row.config.epochs * (seconds * loop.batches + passes * validated), passes=passes)


def _attack_pass(loop: Loop, row: Row) -> float:
    """Return the seconds that an image's forward and backward pass takes in an attack."""
    images = loop.dataset.test.select(torch.arange(min(row.config.evaluation.batch_size, len(loop.dataset.test))))
    x, y = to_float(images.images), images.labels
    alpha = row.config.threat.pgd_alpha
    model = loop.state.model
    with eval_mode(model), hardware.full_precision():
        PGD(model, eps=row.config.threat.eps, alpha=alpha, steps=1).perturb(x, y)
        _wait(loop.device)
        began, steps = time.perf_counter(), 0
        while steps < 1000 and time.perf_counter() - began < _PROBE_SECONDS / 3:
            PGD(model, eps=row.config.threat.eps, alpha=alpha, steps=5).perturb(x, y)
            _wait(loop.device)
            steps += 5
        return (time.perf_counter() - began) / (steps * len(y))


def _passes(suite: Suite, row: Row) -> int:
    """Return the passes of a suite, at most."""
    steps = [int(name.partition("-")[2]) for name in suite.attacks if name.startswith("pgd-")]
    count = max(steps, default=0) + len(steps)  # several step counts are read off one trajectory
    for name in suite.attacks:
        if not name.startswith("pgd-"):
            kind, _, number = name.partition("-")
            count += int(number) + 1 if kind == "gama" else _PASSES[name]
    images = suite.n or _images(suite, row)
    return count * images


def _images(suite: Suite, row: Row) -> int:
    if suite.images == "validation":
        return row.config.data.validation
    return len(data.load(row.config.data).test)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
