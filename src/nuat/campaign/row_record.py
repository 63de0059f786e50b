"""The record of a row, as JSON values: its identity, and its figures or the reason of its failure."""

import traceback
from collections.abc import Mapping
from typing import Any

from nuat import hardware, own_code
from nuat.campaign.definition import Campaign, CampaignRow
from nuat.campaign.ledger import Ledger, settings_digest
from nuat.errors import InputError
from nuat.hardware import versions
from nuat.records.environment import git_revision
from nuat.training.monitors import RunStopped


def done(campaign: Campaign, ledger: Ledger, row: CampaignRow, failed_suites: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a row that is trained and attacked.

    Args:
        campaign: the campaign.
        ledger: its folder.
        row: the row.
        failed_suites: suites that were added after the row was done and failed on it, each with the reason.
    """
    end = ledger.metrics(row)[-1]
    suites = {}
    seconds = {"training": end["seconds"]}
    missing = ledger.missing(row)
    for suite in (suite for suite in row.suites if suite not in missing):
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
        **({"failed_suites": dict(failed_suites)} if failed_suites else {}),
        "alarms": _alarms(ledger, row),
    }


def failed(campaign: Campaign, ledger: Ledger, row: CampaignRow, error: Exception) -> dict[str, Any]:
    """Return the record of a row that ended with ``error``; an unforeseen one comes with its traceback."""
    expected = isinstance(error, (InputError, RunStopped))
    return {
        "status": "failed",
        "reason": reason_of(error),
        "settings_sha256": settings_digest(row),
        **_identity(campaign, row),
        "alarms": _alarms(ledger, row),
        **({} if expected else {"traceback": "".join(traceback.format_exception(error))}),
    }


def reason_of(error: Exception) -> str:
    """Return the reason of a failure in one line."""
    if isinstance(error, (InputError, RunStopped)):
        return " ".join(str(error).split())
    return own_code.told(error) or " ".join("".join(traceback.format_exception_only(error)).split())


def _identity(campaign: Campaign, row: CampaignRow) -> dict[str, Any]:
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


def _alarms(ledger: Ledger, row: CampaignRow) -> list[dict[str, Any]]:
    """Return the alarms of a row's training, with their epochs (from 1)."""
    alarms = [line for line in ledger.metrics(row) if line.get("kind") == "alarm"]
    return [{name: line[name] for name in ("monitor", "epoch", "message")} for line in alarms]
