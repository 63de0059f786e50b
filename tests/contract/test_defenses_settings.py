"""Settings of the defenses that are out of range are refused by name; defenses are frozen and comparable."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from cases import DEFENSE_CLASSES
from defenses.baselines_equality import CASES as BASELINES
from defenses.baselines_equality import Fast

from nuat.config import ThreatConfig, TrainConfig
from nuat.defenses import (
    AWP,
    FBF,
    FGSMPGI,
    GAT,
    LIET,
    NFGSM,
    PGDAT,
    RMGM,
    TRADES,
    TRADESAWP,
    Defense,
    FreeAT,
    NuAT,
    NuAT2,
    NuATHybrid,
)
from nuat.errors import InputError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("make", [NuAT, NuAT2, NuATHybrid, GAT])
def test_a_start_out_of_range_is_refused(make) -> None:
    for alpha in (0.0, -0.1, NAN, INF):
        with pytest.raises(InputError, match=rf"defense\.alpha={alpha:g}: expected a size > 0"):
            make(alpha=alpha)
    with pytest.raises(InputError, match=r"defense\.alpha=4: .*Did you mean 4/255\?"):
        TrainConfig(defense=make(alpha=4))
    TrainConfig(defense=make(alpha=4), threat=ThreatConfig(norm="L2", eps=8.0))


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
    (LIET, "every"): STEPS,
    **{(make, "steps"): STEPS for make in (PGDAT, TRADES, AWP, TRADESAWP)},
    **{(make, "step_size"): STEP_SIZE for make in (PGDAT, TRADES, AWP, TRADESAWP)},
    **{(make, "beta"): WEIGHT for make in (TRADES, TRADESAWP)},
    **{(make, "gamma"): GAMMA for make in (AWP, TRADESAWP)},
    **{(make, "warmup"): WARMUP for make in (AWP, TRADESAWP)},
}


@pytest.mark.parametrize(("make", "name"), FIELDS)
def test_a_field_is_refused_out_of_its_range_in_one_line_and_taken_in_it(make: Any, name: str) -> None:
    expected, refused, taken = FIELDS[make, name]
    for value in refused:
        with pytest.raises(InputError, match=rf"^defense\.{name}={value:g}: {expected}$") as caught:
            make(**{name: value})
        assert "\n" not in str(caught.value)
    for value in taken:
        assert getattr(make(**{name: value}), name) == value


def test_every_number_of_every_defense_has_its_range_tested() -> None:
    numbers = {
        (type(defense), field.name)
        for defense in (make() for make in DEFENSE_CLASSES)
        for field in dataclasses.fields(defense)
        if field.name != "smoothing"  # checked in one place, below
        if type(getattr(defense, field.name)) in (int, float)  # True and False have no range
    }
    assert numbers - {(NuATHybrid, "drop")} == set(FIELDS)


@pytest.mark.parametrize("make", DEFENSE_CLASSES)
def test_the_settings_of_a_run_refuse_a_smoothing_out_of_range(make: Any) -> None:
    for value in (-0.1, 1.0, NAN):
        with pytest.raises(
            InputError, match=rf"^defense\.smoothing={value:g}: expected a share of the label in \[0, 1\)"
        ):
            TrainConfig(defense=make(smoothing=value))
    assert TrainConfig(defense=make(smoothing=0.4)).defense.smoothing == 0.4


@pytest.mark.parametrize("make", DEFENSE_CLASSES)
def test_a_defense_is_frozen_and_comparable(make: type[Defense]) -> None:
    defense = make()
    assert defense == type(defense)()
    for field in dataclasses.fields(defense):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(defense, field.name, None)


def test_every_defense_has_a_test_file_of_its_own() -> None:
    tests = Path(__file__).parent.parent / "defenses"
    missing = {make.__module__.rpartition(".")[2] for make in DEFENSE_CLASSES} - {
        file.stem.removeprefix("test_") for file in tests.glob("test_*.py")
    }
    assert not missing


@pytest.mark.slow
def test_the_defenses_differ() -> None:
    """That the equalities above are not those of things that are all the same."""
    last = {name: Fast(BASELINES[name][0], False).losses[-1] for name in BASELINES}
    assert len({round(loss, 6) for loss in last.values()}) == len(last)
