"""A campaign's folder from before a setting existed counts as what it is, as long as the setting has its default."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from campaign.campaign_runs import NAMES, plan, runner, snapshot, statuses

from nuat.campaign.definition import CampaignRow
from nuat.campaign.ledger import settings_digest
from nuat.config import TrainConfig
from nuat.defenses import FBF, GAT, TRADESAWP, FreeAT
from nuat.errors import InputError
from nuat.recipes import RECIPES, cifar10_resnet18, cifar10_wrn


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


def before(config: TrainConfig) -> TrainConfig:
    """Return a row of the paper with the values that its recipe once had."""
    optimizer, defense = replace(config.optimizer, momentum_at_peak=None), config.defense
    epochs = 11 if isinstance(defense, FreeAT) else config.epochs
    if isinstance(defense, FBF):
        defense = replace(defense, clamped_start=True)
    if isinstance(defense, GAT):
        defense = replace(defense, regularised_attack="odd")
    if isinstance(defense, TRADESAWP):
        defense = replace(defense, warmup=10 / 200)
    model = replace(config.model, variant="plain")
    return replace(config, optimizer=optimizer, defense=defense, model=model, epochs=epochs)


def test_rows_that_changed_their_meaning_have_another_digest() -> None:
    changed = set()
    for name, recipe in RECIPES.items():
        now, then = (
            CampaignRow(label=name, recipe=name, config=config, suites=()) for config in (recipe(), before(recipe()))
        )
        if settings_digest(now) != settings_digest(then):
            changed.add(name)
    cifar10 = {*cifar10_resnet18.RECIPES, *cifar10_wrn.RECIPES}
    mnist = {f"{row}-mnist-mnist-cnn" for row in ("fbf", "gat", "gat-wa", "awp")}
    assert len(cifar10) == 32
    assert cifar10 | mnist <= changed
    assert "nuat-mnist-mnist-cnn" not in changed
