"""NuAT2 equals the slow two-step attack of section 5.3."""

from typing import Any

import pytest
import torch
from defenses.algorithm1_equality import CLOSE, GAUSSIAN, RAMP, assert_equal, both
from reference.algorithm1 import nuclear_norm

from nuat.core.schedules import Ramp
from nuat.defenses import NuAT2
from nuat.errors import InputError


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.08, "scale": "gaussian"}])
def test_equals_the_slow_one(settings: Any) -> None:
    norm = GAUSSIAN if settings else nuclear_norm
    assert_equal(*both(NuAT2(lam=RAMP, **settings), variant="nuat2", norm=norm))


@pytest.mark.slow
def test_equals_the_slow_one_with_the_averages_first_step() -> None:
    fast, slow = both(NuAT2(lam=RAMP, attack_tau=0.99), variant="nuat2", attack_tau=0.99)
    assert_equal(fast, slow)
    for name, tensor in slow.attack_average.items():
        torch.testing.assert_close(fast.state["attack_average"][name], tensor, **CLOSE)
    # the average matters: the first epoch's attacks are those of the live weights, a later one's are not
    _, live = both(NuAT2(lam=RAMP), variant="nuat2")
    different = [not torch.equal(a, b) for a, b in zip(slow.attacks, live.attacks, strict=True)]
    assert not any(different[:3])
    assert any(different[3:])


@pytest.mark.parametrize("tau", [1.0, -0.1, 99.0, float("nan")])
def test_an_attack_decay_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(InputError, match=r"defense\.attack_tau=.*expected a decay in \[0, 1\)"):
        NuAT2(attack_tau=tau)


def test_the_defaults_are_the_papers() -> None:
    assert NuAT2().lam == Ramp(peak=4.0, until=1.0)
    assert NuAT2().alpha is None
    assert NuAT2().attack_tau is None
