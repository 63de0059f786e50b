"""Measurements with round numbers, from which every figure of a plan can be worked out by hand."""

from typing import Any

from nuat.plan.communication import Link
from nuat.plan.forecast import Asked
from nuat.plan.images import Images
from nuat.plan.measure import Group, Measured

LINK = Link(name="a link", bandwidth=1e9, latency=1e-3)
IMAGES = Images(train=36_000, validation=100, test=900, channels=3, size=(10, 10), classes=10, source="made up")


def measured(**changes: Any) -> Measured:
    """Return a step of 20 images that takes 2 s and 40 million operations, in epochs of one kind."""
    group = Group(
        epochs=10, size=(10, 10), operations=2e6, forwards=3.0, training_forwards=2.0, backwards=3.0,
        decisions=0.0, sums=0.0, summed=0.0,
        drawn=300.0, largest_draw=75.0, seconds={20: 2.0},
    )  # fmt: skip
    values: dict[str, Any] = {
        "hardware": "a machine",
        "cpu": True,
        "device_bytes": 10**9,
        "groups": (group,),
        "parameters": 1000,
        "norm_layers": 2,
        "norm_channels": 30,
        "fixed": {"weights": 4000, "buffers": 300, "gradients": 4000, "optimizer": 4000, "averages": 8600},
        "varying": {2: 2000, 20: 11_000},
        "checkpoint": 17_000,
        "weights": 4300,
        "validation_seconds": 0.5,
        "nuclear_seconds": {},
        "decode_seconds": None,
        "decode_bytes": None,
    }
    return Measured(**{**values, **changes})


def asked(**changes: Any) -> Asked:
    """Return 10 epochs of batches of 40."""
    return Asked(**{"images": IMAGES, "epochs": 10, "batch": 40, "link": LINK, **changes})
