"""A campaign's folder from before a setting existed counts as what it is, as long as the setting has its default."""

import json
from pathlib import Path

import pytest
from campaign.campaign_runs import NAMES, plan, runner, snapshot, statuses

from nuat.errors import InputError


def forget(folder: Path, *keys: str) -> None:
    """Remove a field from the settings of every run in a folder."""
    for name in NAMES:
        path = folder / name / "config.json"
        values = json.loads(path.read_text())
        inner = values["config"]
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(values))


def test_rows_from_before_threat_norm_are_done(finished: Path) -> None:
    forget(finished, "threat", "norm")
    before = snapshot(finished)
    campaign = plan()
    assert statuses(runner(campaign).run()) == dict.fromkeys(NAMES, "done")
    after = snapshot(finished)
    again = {name for name in before if after[name] != before[name]}
    assert not [name for name in again if name.startswith(("normal", "nuat"))]  # nothing is trained or attacked again


def test_a_part_without_a_default_is_refused(finished: Path) -> None:
    forget(finished, "threat")
    with pytest.raises(InputError, match=r"begun with threat\.norm=None, not Linf"):
        runner(plan()).run()
