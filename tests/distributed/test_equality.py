"""Several Gloo processes against one on the same global batch: losses, perturbations and weights, in float64."""

import dataclasses
from pathlib import Path

import pytest
import torch
from distributed.engine import DEFENSES, Left, config_of, run_processes, train

from nuat.config import DistributedConfig
from nuat.distributed.world import World

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
EXCHANGES = ("nuat", "nuat2-wa", "nuat-h", "trades-awp", "free-at", "fgsm-pgi")
"""Defenses among which everything that processes exchange is found; more processes do no more with the others."""
CASES = [(name, True) for name in DEFENSES] + [(name, False) for name in EXCHANGES]
"""Defenses, and whether the network has batch norm."""
FOUR = [(name, True) for name in EXCHANGES] + [("nuat-h", False)]


def flat(values: dict, prefix: str = "") -> dict:
    """Return nested values by their dotted names."""
    found: dict = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return found


def trained(world: World, cases: list[tuple[str, bool]]) -> dict[tuple[str, bool], Left]:
    return {
        (name, batch_norm): train(config_of(name, batch_norm=batch_norm), world, batch_norm=batch_norm)
        for name, batch_norm in cases
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return run_processes(2, trained, CASES, folder=tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return run_processes(4, trained, FOUR, folder=tmp_path_factory.mktemp("processes"))


def assert_equals_one(several: list[dict], name: str, batch_norm: bool) -> None:
    expected = train(config_of(name, batch_norm=batch_norm), batch_norm=batch_norm)
    assert len(expected.losses) >= 5
    for found in (by_case[name, batch_norm] for by_case in several):
        assert found.losses == pytest.approx(expected.losses, rel=1e-9)
        for attack, theirs in zip(found.attacks, expected.attacks, strict=True):
            torch.testing.assert_close(attack, theirs, **CLOSE)
        for key, tensor in expected.weights.items():
            torch.testing.assert_close(found.weights[key], tensor, **CLOSE)
        if expected.average is not None:
            for key, tensor in expected.average.items():
                torch.testing.assert_close(found.average[key], tensor, **CLOSE)
        carried, theirs = flat(found.defense), flat(expected.defense)
        assert carried.keys() == theirs.keys()
        for key, value in theirs.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(carried[key], value, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch_norm"), CASES)
def test_two_processes_equal_one(two: list[dict], name: str, batch_norm: bool) -> None:
    assert_equals_one(two, name, batch_norm)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch_norm"), FOUR)
def test_four_processes_equal_one(four: list[dict], name: str, batch_norm: bool) -> None:
    assert_equals_one(four, name, batch_norm)


def norms_per_device(world: World) -> Left:
    config = config_of("nuat2-wa", batch_norm=True)
    config = dataclasses.replace(config, distributed=DistributedConfig(batch_norm="device"))
    return train(config, world, batch_norm=True)


@pytest.mark.slow
def test_with_batch_norm_per_device_every_process_carries_the_same(tmp_path: Path) -> None:
    one, other = run_processes(2, norms_per_device, folder=tmp_path)
    for mine, theirs in ((one.weights, other.weights), (one.average, other.average), (one.defense, other.defense)):
        mine, theirs = flat(mine), flat(theirs)
        assert any("running_mean" in name for name in mine)
        for name, value in mine.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[name])), name


@pytest.mark.slow
def test_the_hybrid_switches_at_the_same_step_on_all(two: list[dict], four: list[dict]) -> None:
    expected = train(config_of("nuat-h", batch_norm=False), batch_norm=False)
    assert expected.events, "the case is to switch"
    for by_case in (*two, *four):
        found = by_case["nuat-h", False].events
        assert [(e["epoch"], e["batch"], e["two_step"]) for e in found] == [
            (e["epoch"], e["batch"], e["two_step"]) for e in expected.events
        ]
