"""Communication against numbers worked out by hand."""

import math
from typing import Any

import pytest

from nuat.plan.communication import BUCKET, FIRST_BUCKET, LINKS, Link, Traffic, traffic

PARAMETERS = 1_000_000


def sent(**changes: Any) -> Traffic:
    """Return the traffic of 4 devices, 10 images each, 100 classes, 3 forward passes."""
    values = {"devices": 4, "parameters": PARAMETERS, "batch": 40, "classes": 100, "forwards": 3}
    return traffic(**{**values, **changes})


def test_a_ring_of_gradients_and_the_gathered_logits() -> None:
    found = sent()
    assert found.gradients == 2 * 3 / 4 * 4 * PARAMETERS
    assert found.logits == 30 * 3 * 400  # the rows of the three others, for each pass 100 floats
    assert found.batch_norm == 0
    assert found.calls == 2 + 3 + 2  # a small and a large bucket, three gathers, whether it was bad, whether to stop
    assert found.total == found.gradients + found.logits


def test_one_device_sends_nothing() -> None:
    found = sent(devices=1, batch_norm="sync", norm_channels=64, norm_layers=2, training_forwards=2)
    assert (found.total, found.calls) == (0, 0)
    assert found.seconds(LINKS["nvlink"], 1) == 0.0


def test_statistics_of_a_device_gather_nothing() -> None:
    found = sent(statistics="device")
    assert (found.logits, found.calls) == (0, 4)
    assert found.gradients == sent().gradients


def test_rows_are_padded_to_the_longest_share() -> None:
    assert sent(batch=38).logits == sent(batch=40).logits


def test_cutmix_gathers_the_images() -> None:
    found = sent(mixed_pixels=3 * 32 * 32)
    assert found.images == 30 * 4 * 3 * 32 * 32
    assert found.total == sent().total + found.images
    assert found.calls == sent().calls + 1
    assert sent().images == 0


def test_running_statistics_are_averaged_once_an_update() -> None:
    found = sent(norm_channels=64, norm_layers=2, training_forwards=2)
    assert found.batch_norm == 2 * 3 / 4 * 4 * 2 * 64
    assert found.calls == sent().calls + 1


def test_synchronised_batch_norm() -> None:
    found = sent(batch_norm="sync", norm_channels=64, norm_layers=2, training_forwards=2)
    forward = 3 * 4 * (2 * 64 + 2)  # mean and inverse deviation of each channel, a count a layer, of three others
    backward = 2 * 3 / 4 * 4 * 2 * 64
    assert found.batch_norm == 2 * (forward + backward)
    assert found.calls == sent().calls + 4 * 2


def test_replays_send_gradients_each_time_and_batches_of_one_update_once() -> None:
    assert sent(updates=8).gradients == 8 * sent().gradients
    fourth = sent(accumulate=4)
    assert fourth.gradients == sent().gradients / 4
    assert fourth.logits == sent().logits
    assert fourth.calls == 3 + 4 / 4


def test_large_gradients_go_in_buckets_of_which_the_first_is_small() -> None:
    few = sent(parameters=FIRST_BUCKET // 4).calls
    assert sent(parameters=FIRST_BUCKET // 4 + 1).calls == few + 1
    assert sent(parameters=(FIRST_BUCKET + 2 * BUCKET) // 4).calls == few + 2


def test_exchanges_of_a_defense() -> None:
    assert sent(defense_calls=2).calls == sent().calls + 2
    assert sent(defense_calls=2).total == sent().total
    found = sent(defense_calls=1, defense_bytes=4000)
    assert (found.defense, found.calls) == (2 * 3 / 4 * 4000, sent().calls + 1)
    assert found.total == sent().total + found.defense


@pytest.mark.parametrize(("devices", "messages"), [(2, 1), (4, 2), (5, 3), (1024, 10)])
def test_time_is_bytes_over_bandwidth_and_messages_times_latency(devices: int, messages: int) -> None:
    link = Link(name="", bandwidth=2e6, latency=1e-3)
    found = Traffic(gradients=4e6, logits=1e6, batch_norm=0.5e6, defense=0.5e6, calls=7)
    assert math.isclose(found.seconds(link, devices), 3.0 + 7 * 1e-3 * messages)
