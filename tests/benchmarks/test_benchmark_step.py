"""The benchmarks of the step run, on a small scale, and compare what is equal."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import scaling
import step
from plain_step import Case, Ours, Plain

sys.path.pop(0)  # its data.py would stand before tests/data

CPU = torch.device("cpu")


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "case", [Case(batch=6, width=2, size=16), Case("mnist-cnn", 4, 2, size=8, channels=1, eps=0.3)]
)
def test_our_losses_are_those_of_the_published_step(case: Case) -> None:
    theirs, ours = Plain(case, CPU), Ours(case, CPU, passes="authors")
    assert step.losses(ours) == pytest.approx(step.losses(theirs), rel=1e-7)


@pytest.mark.slow
def test_step(capsys: pytest.CaptureFixture[str]) -> None:
    step.main(["--models", "mnist-cnn", "--batch", "4", "--width", "2", "--rounds", "1", "--matrix", "64"])
    out = capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith(("| plain", "| ours"))]
    assert [row[0].strip() for row in rows] == ["plain", "ours, fp32", "ours, bf16"]
    assert [row[3].strip() for row in rows] == ["4, 3", "3, 3", "3, 3"]  # the published step takes a pass more
    work = [float(row[4]) for row in rows]
    assert work[0] >= work[1] == work[2]


@pytest.mark.slow
def test_the_profile_lists_kernels() -> None:
    made = Ours(Case(batch=4, width=2, size=8), CPU)
    assert "aten::" in step.profile(made, CPU)


@pytest.mark.slow
def test_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["--axes", "classes", "--values", "3,6", "--batch", "4", "--rounds", "1"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| 3", "| 6"))]
    assert len(rows) == 2
    assert rows[0].split("|")[4].strip() == ""
    assert rows[1].split("|")[4].strip() != ""
