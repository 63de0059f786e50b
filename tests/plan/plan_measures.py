"""Costs with round numbers, from which every estimate of a plan can be worked out by hand."""

from dataclasses import replace
from typing import Any

import torch

from nuat.config import DataConfig, DistributedConfig, TrainConfig
from nuat.defenses import Standard
from nuat.plan.communication import Link
from nuat.plan.estimate import PlannedRun, estimate
from nuat.plan.image_facts import ImageFacts
from nuat.plan.step_costs import Phase, StepCosts

LINK = Link(name="a link", bandwidth=1e9, latency=1e-3)
IMAGES = ImageFacts(train=36_000, validation=100, test=900, channels=3, size=(10, 10), classes=10, source="made up")
PHASE = Phase(
    epochs=10, operations=2e6, forwards=3.0, training_forwards=2.0, defense_calls=0.0, defense_bytes=0.0,
    drawn=300.0, largest_draw=75.0, nuclear=True, added={20: 11_000}, seconds={20: 2.0},
)  # fmt: skip
"""A step of 20 images that takes 2 s and 40 million operations."""


def costs(**changes: Any) -> StepCosts:
    """Return the costs of a run with epochs of one kind."""
    values: dict[str, Any] = {
        "device": torch.device("cpu"),
        "phases": (PHASE,),
        "parameters": 1000,
        "norm_layers": 2,
        "norm_channels": 30,
        "state_bytes": 12_300,
        "average_bytes": 8600,
        "checkpoint": 17_000,
        "weights": 4300,
        "validation_seconds": 0.5,
        "nuclear_seconds": {},
        "decode_seconds": 0.0,
    }
    return StepCosts(**{**values, **changes})


def planned(devices: int, *, epochs: int = 10, data: DataConfig | None = None, **changes: Any) -> PlannedRun:
    """Return a run of batches of 40; ``accumulate``, ``statistics`` and ``batch_norm`` are settings of it."""
    settings = {name: changes.pop(name) for name in ("statistics", "batch_norm") if name in changes}
    config = TrainConfig(
        defense=Standard(), epochs=epochs, data=data or DataConfig(), distributed=DistributedConfig(**settings),
        accumulate=changes.pop("accumulate", 1),
    )  # fmt: skip
    values = {"config": config, "images": IMAGES, "devices": devices, "batch": 40, "link": LINK}
    return PlannedRun(**{**values, **changes})


def numbers(found: StepCosts, run: PlannedRun) -> dict[str, float]:
    """Return the values of the estimates by name."""
    return {name: one.value for name, one in estimate(found, run).items()}


def phase(**changes: Any) -> Phase:
    """Return ``PHASE`` with other values."""
    return replace(PHASE, **changes)
