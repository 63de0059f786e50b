"""NuAT equals the slow Algorithm 1."""

import pytest
from cases import CLASSES
from defenses.algorithm1_equality import RAMP, Fast, assert_equal, both, make_epochs
from oracles import TinyConv

from nuat.core.schedules import Ramp
from nuat.defenses import NuAT, NuAT2


@pytest.mark.parametrize("alpha", [None, 0.08])
@pytest.mark.parametrize("passes", ["one", "authors"])
def test_equals_the_slow_one(passes: str, alpha: float | None) -> None:
    fast, slow = both(NuAT(lam=RAMP, passes=passes, alpha=alpha), variant="nuat", passes=passes)
    assert_equal(fast, slow)
    assert [m["lam"] for m in fast.metrics] == pytest.approx([0] * 3 + [2.5] * 3 + [5] * 3)


@pytest.mark.parametrize("passes", ["one", "authors"])
def test_the_variants_differ(passes: str) -> None:
    """That the equalities above are not those of things that are all the same."""
    data = make_epochs(3)
    runs = {
        "nuat": Fast(NuAT(lam=RAMP, passes=passes), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "nuat2": Fast(NuAT2(lam=RAMP), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "wa": Fast(NuAT2(lam=RAMP, attack_tau=0.99), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
        "no lam": Fast(NuAT(lam=Ramp(peak=0.0)), TinyConv(classes=CLASSES, dropout=0.0).double(), data),
    }
    last = {name: run.losses[-1] for name, run in runs.items()}
    assert len({round(loss, 6) for loss in last.values()}) == len(last)


def test_the_defaults_are_the_papers() -> None:
    assert NuAT().lam == Ramp(peak=4.0, until=1.0)
    assert NuAT().alpha is None
    assert NuAT().passes == "one"
