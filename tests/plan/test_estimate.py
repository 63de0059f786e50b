"""Estimates of a plan against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plan.plan_measures import IMAGES, LINK, costs, numbers, phase, planned

from nuat.config import DataConfig
from nuat.plan.communication import traffic
from nuat.plan.estimate import JPEG, estimate, warnings

STREAMED = DataConfig(path=Path("pictures"), loading="stream", image_size=10)


def test_one_device() -> None:
    found = numbers(costs(), planned(1))
    assert found["held"] == 40
    assert found["compute_seconds"] == 4.0  # twice the images that were timed
    assert found["communication_seconds"] == found["joint_seconds"] == found["sent_bytes"] == 0.0
    assert found["steps"] == 900
    assert found["training_hours"] == pytest.approx(10 * 900 * 4 / 3600)
    assert found["validation_hours"] == pytest.approx(10 * 100 * 0.5 / 3600)
    assert found["hours"] == found["device_hours"] == pytest.approx(10.0 + 500 / 3600)
    assert found["images_rate"] == 10.0
    assert found["operations"] == 2e6
    assert found["drawn"] == 40 * 300
    assert estimate(costs(), planned(1))["compute_seconds"].how == "assumed"


def test_validation_costs_as_often_as_it_comes() -> None:
    run = planned(1)
    some = replace(run, config=replace(run.config, validate_every=4))
    assert numbers(costs(), some)["validation_hours"] == pytest.approx(4 * 100 * 0.5 / 3600)  # epochs 1, 4, 8, 10
    # by default a GPU gives it no more than 5 % of the time of training
    gpu = costs(device=torch.device("cuda"), validation_seconds=500.0)
    assert numbers(gpu, run)["validation_hours"] == pytest.approx(0.05 * 10.0)
    assert numbers(gpu, some)["validation_hours"] == pytest.approx(4 * 100 * 500.0 / 3600)


def test_two_devices() -> None:
    found = numbers(costs(), planned(2))
    assert found["held"] == 20
    assert found["compute_seconds"] == 2.0
    assert estimate(costs(), planned(2))["compute_seconds"].how == "measured"
    sent = traffic(devices=2, parameters=1000, batch=40, classes=10, forwards=3, norm_channels=30, norm_layers=2)
    assert found["sent_bytes"] == sent.total > 0
    assert found["communication_seconds"] == pytest.approx(sent.total / 1e9 + sent.calls * 1e-3)
    step = 2.0 + found["communication_seconds"]
    assert found["step_seconds"] == pytest.approx(step)
    assert found["efficiency"] == pytest.approx(2.0 / step)
    assert found["training_hours"] == pytest.approx(10 * 900 * step / 3600)
    assert found["validation_hours"] == pytest.approx(10 * 50 * 0.5 / 3600)
    assert found["device_hours"] == pytest.approx(2 * found["hours"])


def test_exchanges_of_the_defense_are_sent() -> None:
    told = phase(defense_calls=3.0, defense_bytes=4000.0)
    plain, found = numbers(costs(), planned(2)), numbers(costs(phases=(told,)), planned(2))
    assert found["defense_bytes"] == found["sent_bytes"] - plain["sent_bytes"] == 4000
    later = found["communication_seconds"] - plain["communication_seconds"]
    assert later == pytest.approx(4000 / 1e9 + 3 * 1e-3)


def test_memory() -> None:
    one, two = numbers(costs(), planned(1)), numbers(costs(), planned(2))
    assert one["state_bytes"] == 12_300
    assert one["average_bytes"] == 8600
    assert (one["noise_bytes"], two["noise_bytes"]) == (0, 40 * 75)
    assert (one["activation_bytes"], two["activation_bytes"]) == (22_000, 11_000)
    assert one["resident_bytes"] == 37_000 * 300
    assert two["memory_bytes"] == 12_300 + 8600 + 3000 + 11_000 + 37_000 * 300
    most = costs(phases=(phase(), phase(added={20: 50_000})))
    assert numbers(most, planned(2))["activation_bytes"] == 50_000


def test_disk_and_a_data_set_that_is_streamed() -> None:
    held = numbers(costs(), planned(1, data=DataConfig(path=Path("pictures"))))
    assert held["cache_bytes"] == 37_000 * 300
    assert held["disk_bytes"] == 2 * 17_000 + 2 * 4300 + 37_000 * 300
    assert "workers" not in held
    assert numbers(costs(), planned(1, data=DataConfig(path=Path("a.npz"))))["cache_bytes"] == 0
    found = numbers(costs(decode_seconds=0.35), planned(1, data=STREAMED))
    assert (found["resident_bytes"], found["cache_bytes"]) == (100 * 300, 0)
    assert found["workers"] == 4  # 10 images a second at 0.35 s
    assert found["file_rate"] == 10 * JPEG
    assert found["data_bytes"] == 37_000 * JPEG
    told = numbers(costs(), planned(1, data=STREAMED, images=replace(IMAGES, file_bytes=700.0)))
    assert told["file_rate"] == 7000


def test_another_devices_rate_is_an_assumption_in_proportion() -> None:
    """20 images of 2 million operations in 2 s are 20 million a second."""
    slow, fast = numbers(costs(), planned(2, rate=20e6)), numbers(costs(), planned(2, rate=200e6))
    assert slow["compute_seconds"] == pytest.approx(2.0)
    assert fast["compute_seconds"] == pytest.approx(0.2)
    assert estimate(costs(), planned(2, rate=20e6))["compute_seconds"].how == "assumed"
    assert fast["validation_hours"] == pytest.approx(slow["validation_hours"] / 10)
    assert fast["communication_seconds"] == slow["communication_seconds"]


def test_phases_are_weighted_by_their_epochs() -> None:
    second = phase(epochs=30, seconds={20: 6.0}, operations=6e6)
    found = numbers(costs(phases=(phase(), second)), planned(1, epochs=40))
    assert found["training_hours"] == pytest.approx((10 * 4 + 30 * 12) * 900 / 3600)
    assert found["compute_seconds"] == 10.0
    assert found["operations"] == 5e6
    assert found["images_rate"] == 10.0  # where they are needed fastest


def test_the_norm_of_the_global_batch_costs_its_extra_time() -> None:
    ready = costs(nuclear_seconds={20: 0.1, 40: 0.3})
    assert numbers(ready, planned(2))["joint_seconds"] == pytest.approx(2 * 0.2)
    assert numbers(ready, planned(1))["joint_seconds"] == 0.0
    own = numbers(ready, planned(2, statistics="device"))
    assert (own["joint_seconds"], own["logit_bytes"]) == (0.0, 0.0)


def test_batches_of_one_update_send_its_gradients_once() -> None:
    one, four = numbers(costs(), planned(2)), numbers(costs(), planned(2, accumulate=4))
    assert four["gradient_bytes"] == one["gradient_bytes"] / 4
    assert four["held"] == one["held"]
    assert four["activation_bytes"] == one["activation_bytes"]


def test_the_nearest_timed_batch_is_taken() -> None:
    found = costs(phases=(phase(seconds={20: 2.0, 40: 3.0}),))
    assert numbers(found, planned(1))["compute_seconds"] == 3.0
    assert numbers(found, planned(1, batch=80))["compute_seconds"] == 6.0


@pytest.mark.parametrize(("batch", "devices", "held"), [(64, 8, 8), (64, 64, 1), (40, 1, 40), (41, 8, 6)])
def test_a_device_holds_the_largest_share(batch: int, devices: int, held: int) -> None:
    assert planned(devices, batch=batch).held == held


def test_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(devices: int, values: dict[str, Any] | None = None, **changes: Any) -> str:
        found, run = costs(**(values or {})), planned(devices, **changes)
        return "\n".join(warnings(estimate(found, run), found, run))

    assert told(1) == ""
    assert told(2) == ""
    assert "a step is communication" in told(2, link=replace(LINK, bandwidth=1e3))
    assert "over the 4 images of a device" in told(10)
    assert "over the 4 images" not in told(10, {"norm_layers": 0})
    assert "over the 4 images" not in told(10, batch_norm="sync")
    slow = told(1, {"decode_seconds": 1e4}, data=STREAMED)
    assert "images are needed faster than this machine decodes them: 100000 worker processes" in slow
    monkeypatch.setattr("nuat.plan.estimate.memory_bytes", lambda device: 2e6)
    assert "a device needs 0.0 GB; the one here has 0.0 GB" in told(1)
    monkeypatch.setattr("nuat.plan.estimate.memory_bytes", lambda device: None)
    assert told(1) == ""
