"""Settings of the defenses that cannot be are refused with their name; the defaults are the paper's."""

import dataclasses
from typing import Any

import pytest

from nuat.core.schedules import Jumps, Ramp
from nuat.defenses import (
    AWP,
    FBF,
    FGSMAT,
    FGSMPGI,
    GAT,
    NFGSM,
    PGDAT,
    RFGSMAT,
    RMGM,
    TRADES,
    TRADESAWP,
    Defense,
    FreeAT,
    NuAT,
    NuAT2,
    NuATHybrid,
    Standard,
)
from nuat.errors import InputError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("make", [NuAT, NuAT2, NuATHybrid, GAT])
def test_a_start_out_of_range_is_refused(make) -> None:
    with pytest.raises(InputError, match=r"defense\.alpha=4: .*Did you mean 4/255\?"):
        make(alpha=4)
    with pytest.raises(InputError, match=r"defense\.alpha=0: "):
        make(alpha=0.0)


@pytest.mark.parametrize("tau", [1.0, -0.1, 99.0, float("nan")])
def test_an_attack_decay_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(InputError, match=r"defense\.attack_tau=.*expected a decay in \[0, 1\)"):
        NuAT2(attack_tau=tau)


# what is expected of a field, which values it refuses, and which it takes
STEPS = (r"expected at least 1\.", (0, -1), (1, 100))
STEP_SIZE = (r"expected a step in units of eps, in \(0, 1\]\.", (0.0, -0.25, 1.01, 2.0, NAN, INF), (0.007, 1.0))
LONG_STEP = (r"expected a step in units of eps, in \(0, 2\]\.", (0.0, -1.0, 2.5, 10.0, NAN, INF), (0.01, 1.25, 2.0))
WEIGHT = (r"expected a finite weight >= 0\.", (-0.1, NAN, INF, -INF), (0.0, 1e3))
GAMMA = (r"expected a relative size in \(0, 1\]\.", (0.0, -0.01, 1.5, NAN, INF), (1e-4, 1.0))
WARMUP = (r"expected a fraction of the run in \[0, 1\)\.", (-0.1, 1.0, 10, NAN, INF), (0.0, 0.99))
NOISE = (r"expected a magnitude in units of eps, in \(0, 10\]\.", (0.0, -1.0, 10.5, 16.0, NAN, INF), (0.1, 10.0))
FIELDS: dict[tuple[type[Defense], str], tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    (FBF, "step_size"): LONG_STEP,
    (NFGSM, "noise"): NOISE,
    (RMGM, "weight"): WEIGHT,
    (FGSMPGI, "weight"): WEIGHT,
    (FreeAT, "replays"): STEPS,
    **{(make, "steps"): STEPS for make in (PGDAT, TRADES, AWP, TRADESAWP)},
    **{(make, "step_size"): STEP_SIZE for make in (PGDAT, TRADES, AWP, TRADESAWP)},
    **{(make, "beta"): WEIGHT for make in (TRADES, TRADESAWP)},
    **{(make, "gamma"): GAMMA for make in (AWP, TRADESAWP)},
    **{(make, "warmup"): WARMUP for make in (AWP, TRADESAWP)},
}


@pytest.mark.parametrize(
    ("make", "name", "value"), [(*key, value) for key, (_, refused, _) in FIELDS.items() for value in refused]
)
def test_a_field_out_of_range_is_refused_in_one_line(make: Any, name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^defense\.{name}={value:g}: {FIELDS[make, name][0]}$") as caught:
        make(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "name", "value"), [(*key, value) for key, (_, _, taken) in FIELDS.items() for value in taken]
)
def test_a_field_in_range_is_taken(make: Any, name: str, value: float) -> None:
    assert getattr(make(**{name: value}), name) == value


EVERY = [
    *(Standard(), NuAT(), NuAT2(), NuATHybrid(), FGSMAT(), RFGSMAT(), FBF(), RMGM(), GAT(), PGDAT(), TRADES()),
    *(AWP(), TRADESAWP(), FreeAT(), NFGSM(), FGSMPGI()),
]


def test_every_number_of_every_defense_has_its_range_tested() -> None:
    numbers = {
        (type(defense), field.name)
        for defense in EVERY
        for field in dataclasses.fields(defense)
        if isinstance(getattr(defense, field.name), (int, float))
    }
    assert numbers - {(NuATHybrid, "drop")} == set(FIELDS)


@pytest.mark.parametrize("defense", EVERY, ids=lambda defense: type(defense).__name__)
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


def test_defaults_of_the_baselines_are_those_of_their_own_code() -> None:
    """In units of eps = 8/255: FBF's step of 10/255, PGD-AT's and TRADES' of 2/255."""
    assert FBF().step_size * 8 == 10
    assert (PGDAT().steps, PGDAT().step_size * 8) == (10, 2)
    assert (TRADES().beta, TRADES().steps, TRADES().step_size * 8) == (6.0, 10, 2)
    assert (AWP().gamma, TRADESAWP().gamma) == (0.01, 0.005)
    assert (TRADESAWP().beta, TRADESAWP().steps, AWP().steps) == (6.0, 10, 10)
    assert GAT().weight == Jumps(start=10.0, at=(0.85,), factor=4.0)
    assert GAT().alpha is None
    assert FreeAT().replays == FreeAT().updates_per_batch == 8
    assert NFGSM().noise == 2.0
    assert FGSMPGI().weight == 10.0


def test_only_free_at_replays() -> None:
    assert FreeAT(replays=3).updates_per_batch == 3
    assert {defense.updates_per_batch for defense in EVERY if not isinstance(defense, FreeAT)} == {1}
