"""What a row's record says: whose it is, and its figures or why it failed. JSON values all."""

import traceback
from typing import Any

from nuat import hardware
from nuat.campaign.ledger import Ledger, settings_digest
from nuat.campaign.plan import Campaign, Row
from nuat.errors import InputError
from nuat.hardware import versions
from nuat.records.environment import git_revision
from nuat.training.monitors import RunStopped


def done(campaign: Campaign, ledger: Ledger, row: Row) -> dict[str, Any]:
    """Return the record of a row that is trained and attacked."""
    end = ledger.metrics(row)[-1]
    suites = {}
    seconds = {"training": end["seconds"]}
    for suite in row.suites:
        found = ledger.evaluation(row, suite)
        accuracies = {result.name: result.accuracy for result in found.results}
        suites[suite.name] = {
            "images": suite.images,
            "n": found.n,
            "accuracies": {**accuracies, "worst-case": found.accuracy("worst-case")},
        }
        seconds[suite.name] = sum(result.seconds or 0.0 for result in found.results)
    return {
        "status": "done",
        **_identity(campaign, row),
        "eps": row.config.threat.eps,
        "epochs": end["epochs"],
        "best_epoch": end["best_epoch"],
        "forwards": end["forwards"],
        "backwards": end["backwards"],
        "seconds": seconds,
        "suites": suites,
        "alarms": _alarms(ledger, row),
    }


def failed(campaign: Campaign, ledger: Ledger, row: Row, error: Exception) -> dict[str, Any]:
    """Return the record of a row that ended with ``error``: its reason in one line, and an unforeseen one's trace."""
    expected = isinstance(error, (InputError, RunStopped))
    reason = str(error) if expected else "".join(traceback.format_exception_only(error))
    return {
        "status": "failed",
        "reason": " ".join(reason.split()),
        "settings_sha256": settings_digest(row),
        **_identity(campaign, row),
        "alarms": _alarms(ledger, row),
        **({} if expected else {"traceback": "".join(traceback.format_exception(error))}),
    }


def _identity(campaign: Campaign, row: Row) -> dict[str, Any]:
    return {
        "campaign": campaign.name,
        "label": row.label,
        "recipe": row.recipe,
        "settings": dict(row.settings),
        "seed": row.seed,
        "hardware": hardware.describe(hardware.resolve(row.config.device)),
        "nuat": hardware.NUAT_VERSION,
        "git": git_revision(),
        "packages": versions(),
    }


def _alarms(ledger: Ledger, row: Row) -> list[dict[str, Any]]:
    """Return the alarms of a row's training, with their epochs (from 1)."""
    alarms = [line for line in ledger.metrics(row) if line.get("kind") == "alarm"]
    return [{name: line[name] for name in ("monitor", "epoch", "message")} for line in alarms]
