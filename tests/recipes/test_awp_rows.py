"""TRADES-AWP of the paper's tables, with the settings of its authors' code."""

import pytest

from nuat.core.schedules import MultiStep
from nuat.defenses import TRADESAWP
from nuat.recipes import RECIPES


@pytest.mark.parametrize(
    ("name", "variant"),
    [("cifar10-resnet18", "nuat"), ("cifar10-wrn-34-10", "plain"), ("imagenet100-resnet18", "plain")],
)
def test_awp_begins_and_drops_an_epoch_early_as_its_code_counts_from_one(name: str, variant: str) -> None:
    row = RECIPES[f"awp-{name}"]()
    assert isinstance(row.defense, TRADESAWP)
    assert isinstance(row.optimizer.lr, MultiStep)
    assert row.epochs * row.defense.warmup == 9
    assert [round(row.epochs * drop, 9) for drop in row.optimizer.lr.drops] == [99, 149]
    assert row.model.variant == variant
