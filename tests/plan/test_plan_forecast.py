"""Figures of a plan against numbers worked out by hand."""

from dataclasses import replace
from typing import Any

import pytest
from plan_measures import IMAGES, LINK, asked, measured

from nuat.config import DistributedConfig, TrainConfig
from nuat.defenses import Standard
from nuat.plan.communication import traffic
from nuat.plan.forecast import FIGURES, JPEG, RECORD, Engine, forecast, share, warnings


def test_one_device() -> None:
    found = forecast(measured(), asked(), 1)
    assert found["held"] == 40
    assert found["compute_seconds"] == 4.0  # twice the images that were timed
    assert found["communication_seconds"] == found["joint_seconds"] == found["sent_bytes"] == 0.0
    assert found["steps"] == 900
    assert found["training_hours"] == pytest.approx(10 * 900 * 4 / 3600)
    assert found["validation_hours"] == pytest.approx(10 * 100 * 0.5 / 3600)
    assert found["hours"] == found["device_hours"] == pytest.approx(10.0 + 500 / 3600)
    assert found["images_rate"] == 10.0
    assert found["pixel_rate"] == 3000.0
    assert found["operations"] == 2e6
    assert found["drawn"] == 40 * 300
    assert found.figures["compute_seconds"].how == "assumed"


def test_two_devices() -> None:
    found = forecast(measured(), asked(), 2)
    assert found["held"] == 20
    assert found["compute_seconds"] == 2.0
    assert found.figures["compute_seconds"].how == "measured"
    sent = traffic(devices=2, parameters=1000, batch=40, classes=10, forwards=3, norm_channels=30, norm_layers=2)
    assert found["sent_bytes"] == sent.total > 0
    assert found["communication_seconds"] == pytest.approx(sent.total / 1e9 + sent.calls * 1e-3)
    step = 2.0 + found["communication_seconds"]
    assert found["step_seconds"] == pytest.approx(step)
    assert found["efficiency"] == pytest.approx(2.0 / step)
    assert found["training_hours"] == pytest.approx(10 * 900 * step / 3600)
    assert found["validation_hours"] == pytest.approx(10 * 50 * 0.5 / 3600)
    assert found["device_hours"] == pytest.approx(2 * found["hours"])


def test_what_the_defense_exchanges_is_sent() -> None:
    told = replace(measured().groups[0], decisions=1.0, sums=1.0, summed=4000.0)
    plain, found = forecast(measured(), asked(), 2), forecast(measured(groups=(told,)), asked(), 2)
    assert found["defense_bytes"] == found["sent_bytes"] - plain["sent_bytes"] == 4000
    later = found["communication_seconds"] - plain["communication_seconds"]
    assert later == pytest.approx(4000 / 1e9 + 3 * 1e-3)


def test_memory() -> None:
    one, two = forecast(measured(), asked(), 1), forecast(measured(), asked(), 2)
    assert one["state_bytes"] == 12_300
    assert one["average_bytes"] == 8600
    assert (one["noise_bytes"], two["noise_bytes"]) == (0, 40 * 75)
    # 1,000 bytes and 500 an image
    assert (one["activation_bytes"], two["activation_bytes"]) == (21_000, 11_000)
    assert one["resident_bytes"] == 37_000 * 300
    assert two["memory_bytes"] == 12_300 + 8600 + 3000 + 11_000 + 37_000 * 300


def test_disk_and_a_data_set_that_is_streamed() -> None:
    held = forecast(measured(), asked(cached=True), 1)
    assert held["cache_bytes"] == 37_000 * 300
    assert held["disk_bytes"] == 2 * 17_000 + 2 * 4300 + 10 * RECORD + FIGURES + 37_000 * 300
    assert "workers" not in held.figures
    found = forecast(measured(decode_seconds=0.35, decode_bytes=5000), asked(streamed=True), 1)
    assert (found["resident_bytes"], found["cache_bytes"]) == (100 * 300, 0)
    assert found["workers"] == 4  # 10 images a second at 0.35 s
    assert found["file_rate"] == 50_000
    assert found["data_bytes"] == 37_000 * 5000
    told = forecast(measured(), asked(streamed=True, images=replace(IMAGES, file_bytes=700.0)), 1)
    assert told["file_rate"] == 7000
    assert forecast(measured(), asked(streamed=True), 1)["file_rate"] == 10 * JPEG


def test_another_devices_rate_is_an_assumption_in_proportion() -> None:
    """20 images of 2 million operations in 2 s are 20 million a second."""
    slow, fast = forecast(measured(), asked(rate=20e6), 2), forecast(measured(), asked(rate=200e6), 2)
    assert slow["compute_seconds"] == pytest.approx(2.0)
    assert fast["compute_seconds"] == pytest.approx(0.2)
    assert fast.figures["compute_seconds"].how == "assumed"
    assert fast["validation_hours"] == pytest.approx(slow["validation_hours"] / 10)
    assert fast["communication_seconds"] == slow["communication_seconds"]


def test_epochs_of_two_kinds_are_weighted() -> None:
    first = measured().groups[0]
    second = replace(first, epochs=30, seconds={20: 6.0}, operations=6e6)
    found = forecast(measured(groups=(first, second)), asked(epochs=40), 1)
    assert found["training_hours"] == pytest.approx((10 * 4 + 30 * 12) * 900 / 3600)
    assert found["compute_seconds"] == 10.0
    assert found["operations"] == 5e6
    assert found["images_rate"] == 10.0  # when they are needed fastest


def test_the_norm_of_the_global_batch_costs_what_it_takes_longer() -> None:
    ready = measured(nuclear_seconds={20: 0.1, 40: 0.3})
    assert forecast(ready, asked(), 2)["joint_seconds"] == pytest.approx(2 * 0.2)
    assert forecast(ready, asked(), 1)["joint_seconds"] == 0.0
    own = asked(engine=Engine(statistics="device"))
    assert forecast(ready, own, 2)["joint_seconds"] == 0.0
    assert forecast(ready, own, 2)["logit_bytes"] == 0.0


def test_batches_of_one_update_send_its_gradients_once() -> None:
    one, four = forecast(measured(), asked(), 2), forecast(measured(), asked(engine=Engine(accumulate=4)), 2)
    assert four["gradient_bytes"] == one["gradient_bytes"] / 4
    assert four["held"] == one["held"]
    assert four["activation_bytes"] == one["activation_bytes"]


def test_the_nearest_timed_batch_is_taken() -> None:
    group = replace(measured().groups[0], seconds={20: 2.0, 40: 3.0})
    assert forecast(measured(groups=(group,)), asked(), 1)["compute_seconds"] == 3.0
    assert forecast(measured(groups=(group,)), asked(batch=80), 1)["compute_seconds"] == 6.0


def test_shares() -> None:
    assert (share(64, 8), share(64, 64), share(40, 1)) == (8, 1, 40)


def test_warnings() -> None:
    def told(devices: int, values: dict[str, Any] | None = None, **changes: Any) -> str:
        found, question = measured(**(values or {})), asked(**changes)
        return "\n".join(warnings(forecast(found, question, devices), found, question))

    assert told(1) == ""
    assert told(2) == ""
    assert "a device needs 0.0 GB; the one here has 0.0 GB" in told(1, {"device_bytes": 1000})
    assert "a step is communication" in told(2, link=replace(LINK, bandwidth=1e3))
    assert "over the 4 images of a device" in told(10)
    assert "over the 4 images" not in told(10, {"norm_layers": 0})
    assert "over the 4 images" not in told(10, engine=Engine(batch_norm="sync"))
    assert "draws the noise of the whole batch, 1.5 billion" in told(2, batch=5_000_000)
    slow = told(1, {"decode_seconds": 1e4, "decode_bytes": 1}, streamed=True)
    assert "images are needed faster than this machine decodes: 100000 worker processes" in slow


def test_the_engine_is_read_off_the_settings() -> None:
    plain = TrainConfig(defense=Standard())
    assert Engine.of(plain) == Engine(statistics="global", batch_norm="device", accumulate=1)
    told = replace(plain, accumulate=4, distributed=DistributedConfig(statistics="device", batch_norm="sync"))
    assert Engine.of(told) == Engine(statistics="device", batch_norm="sync", accumulate=4)
