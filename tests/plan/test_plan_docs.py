"""The numbers of docs/scale.md against the functions that they come from."""

import math
import re
from pathlib import Path

import pytest

from nuat.plan.communication import LINKS, traffic
from nuat.plan.scale import lambda_factor, nuclear_per_image

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
    ("place", "parameters", "share", "classes"), [(0, 11_173_962, 64, 10), (1, 25_557_032, 32, 1000)]
)
def test_the_worked_communication(place: int, parameters: int, share: int, classes: int) -> None:
    """Networks of so many numbers, and NuAT's three passes."""
    gradients, logits = (rows(f"sent by a device: {name}")[place] for name in ("gradients", "logits"))
    batches = rows("images a batch M")[place]
    for i, n in enumerate(DEVICES):
        assert int(batches[i].replace(",", "")) == n * share
        sent = traffic(devices=n, parameters=parameters, batch=n * share, classes=classes, forwards=3)
        assert size(gradients[i]) == pytest.approx(sent.gradients, rel=0.01)
        assert size(logits[i]) == pytest.approx(sent.logits, rel=0.01)


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
