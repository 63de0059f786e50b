"""Settings of the defenses that cannot be are refused with their name; the defaults are the paper's."""

import dataclasses

import pytest

from nuat.defenses import Defense, NuAT, NuAT2, NuATHybrid, Standard
from nuat.errors import InputError
from nuat.schedules import Ramp


@pytest.mark.parametrize("make", [NuAT, NuAT2, NuATHybrid])
def test_a_start_out_of_range_is_refused(make) -> None:
    with pytest.raises(InputError, match=r"defense\.alpha=4: .*Did you mean 4/255\?"):
        make(alpha=4)
    with pytest.raises(InputError, match=r"defense\.alpha=0: "):
        make(alpha=0.0)


@pytest.mark.parametrize("tau", [1.0, -0.1, 99.0, float("nan")])
def test_an_attack_decay_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(InputError, match=r"defense\.attack_tau=.*expected a decay in \[0, 1\)"):
        NuAT2(attack_tau=tau)


@pytest.mark.parametrize("defense", [Standard(), NuAT(), NuAT2(), NuATHybrid()])
def test_a_defense_is_frozen_and_comparable(defense: Defense) -> None:
    assert defense == type(defense)()
    for field in dataclasses.fields(defense):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(defense, field.name, None)


def test_defaults_are_the_papers() -> None:
    for defense in (NuAT(), NuAT2(), NuATHybrid()):
        assert defense.lam == Ramp(peak=4.0, until=1.0)
        assert defense.alpha is None
    assert NuAT().passes == NuATHybrid().passes == "one"
    assert NuAT2().attack_tau is None
