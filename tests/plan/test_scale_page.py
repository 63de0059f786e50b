"""The numbers of docs/scale.md against the functions that they come from."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from nuat import models
from nuat.config import ModelConfig
from nuat.plan.communication import LINKS, traffic
from nuat.recipes.lambda_scaling import lambda_factor, nuclear_per_image

TEXT = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
DEVICES = (1, 8, 64, 1024)


def rows(label: str) -> list[list[str]]:
    """Return the cells of every row of a table with that label, in order."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")][1:]
        for line in TEXT.splitlines()
        if line.startswith(f"| {label} |")
    ]


def size(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number) * UNITS[unit] if unit else float(number)


@pytest.mark.parametrize("images", [64, 128, 256, 512, 1024, 4096, 16384, 65536])
def test_the_table_of_lambda(images: int) -> None:
    (cells,) = [row for row in rows(f"{images:,}") if len(row) == 6]
    for i, classes in enumerate((10, 100, 1000)):
        assert float(cells[2 * i]) == pytest.approx(nuclear_per_image(images, classes), abs=0.0051)
        assert float(cells[2 * i + 1]) == pytest.approx(lambda_factor((64, 10), (images, classes)), rel=0.02)


@pytest.mark.parametrize(
    ("place", "network", "side", "share", "classes"), [(0, "resnet18", 32, 64, 10), (1, "resnet50", 224, 32, 1000)]
)
def test_the_worked_communication(place: int, network: str, side: int, share: int, classes: int) -> None:
    """Networks of so many numbers, NuAT's three passes, and links within a machine of 8 and beyond."""
    with torch.device("meta"):
        model = models.build(ModelConfig(name=network), channels=3, classes=classes, image_size=(side, side))
    parameters = sum(p.numel() for p in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    channels = sum(norm.num_features for norm in norms)
    times, computed, joint, alone = (
        [row for row in rows(label) if len(row) == 4][place]
        for label in (
            "communication, not hidden", "computation", "nuclear norms of the global batch",
            "part that is one device's work",
        )
    )  # fmt: skip
    gradients, logits = (rows(f"sent by a device: {name}")[place] for name in ("gradients", "logits"))
    batches = rows("images a batch M")[place]
    for i, n in enumerate(DEVICES):
        assert int(batches[i].replace(",", "")) == n * share
        sent = traffic(
            devices=n, parameters=parameters, batch=n * share, classes=classes, forwards=3,
            norm_layers=len(norms), norm_channels=channels,
        )  # fmt: skip
        assert size(gradients[i]) == pytest.approx(sent.gradients, rel=0.01)
        assert size(logits[i]) == pytest.approx(sent.logits, rel=0.01)
        told = [float(cells[i].removesuffix(" ms")) for cells in (times, computed, joint)]
        assert told[0] == pytest.approx(1e3 * sent.seconds(LINKS["nvlink" if n <= 8 else "infiniband"], n), rel=0.012)
        assert float(alone[i].removesuffix(" %")) == pytest.approx(100 * told[1] / sum(told), abs=0.6)


def test_the_assumed_links() -> None:
    told = re.findall(r"(\d+) GB/s and (\d+) us (within|beyond)", " ".join(TEXT.split()))
    assert len(told) == 2
    for (bandwidth, latency, _), name in zip(told, ("nvlink", "infiniband"), strict=True):
        assert LINKS[name].bandwidth == float(bandwidth) * 1e9
        assert LINKS[name].latency == pytest.approx(float(latency) * 1e-6)


@pytest.mark.parametrize("devices", [8, 64, 1024])
def test_the_table_of_failures(devices: int) -> None:
    (cells,) = [row for row in rows(f"{devices:,}") if row[0].endswith(" h")]
    between = 50_000 * 3600 / devices
    assert float(cells[0].removesuffix(" h").replace(",", "")) == pytest.approx(between / 3600, rel=0.01)
    value, unit = cells[1].split()
    assert float(value) * {"h": 3600, "min": 60}[unit] == pytest.approx(math.sqrt(60 * between), rel=0.02)
    assert float(cells[2].removesuffix(" %")) == pytest.approx(100 * math.sqrt(60 / between), abs=0.05)
