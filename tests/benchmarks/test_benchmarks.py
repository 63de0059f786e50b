"""The benchmarks run, at tiny sizes, and what they share counts right. No test asserts on time."""

import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _from_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def measure() -> Iterator[ModuleType]:
    yield importlib.import_module("measure")
    del sys.modules["measure"]


def printed(script: str, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
    runpy.run_path(str(FOLDER / script), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.slow
def test_nuclear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measure: ModuleType) -> None:
    small = measure.Limits(1e9, 1e9)
    monkeypatch.setattr(measure.Limits, "measure", lambda *arguments, **settings: small)
    out = printed("nuclear.py", "--sizes 6x3 --conditions 10 --rounds 1 --device cpu", monkeypatch, capsys)
    assert "| 6x3, normal |" in out
    assert "| 6x3, condition 1e3 |" in out
    (errors,) = [line for line in out.splitlines() if line.startswith("| 6x3, 10 |")]
    figures = [float(figure) for cell in errors.strip("| ").split(" | ")[1:] for figure in cell.split(", ")]
    assert len(figures) == 6
    assert max(figures) < 1e-5


@pytest.mark.slow
def test_attack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measure: ModuleType) -> None:
    pytest.importorskip("torchattacks")
    pytest.importorskip("foolbox")
    small = measure.Limits(1e9, 1e9)
    monkeypatch.setattr(measure.Limits, "measure", lambda *arguments, **settings: small)
    out = printed("attack.py", "--width 2 --batch 2 --steps 2 --rounds 1 --device cpu", monkeypatch, capsys)
    for model in ("resnet18 of width 2", "mnist-cnn"):
        lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith(f"| {model}, ")]
        assert [line[0].removeprefix(f"{model}, ") for line in lines] == [
            "torchattacks",
            "foolbox",
            "ours",
            "ours, channels last",
        ]
        assert lines[2][4] == "4, 4"  # two steps on two images
        assert all(line[-1] == "0.00 %, 100 %" for line in lines[:3])


def test_work_counts_operations_and_bytes_forward_and_backward(measure: ModuleType) -> None:
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones(3, 5)
    assert measure.work(lambda: a @ b) == measure.Work(2 * 2 * 3 * 5, 4 * (6 + 15 + 10))
    backward = measure.work(lambda: torch.autograd.grad((a @ b).sum(), a))
    assert backward.operations == 2 * 2 * 2 * 3 * 5
    conv = torch.nn.Conv2d(3, 4, 3, bias=False)
    x = torch.ones(2, 3, 8, 8, requires_grad=True)
    assert measure.work(lambda: torch.autograd.grad(conv(x).sum(), x)).operations == 2 * (2 * 2 * 4 * 6 * 6 * 27)


def test_rounds_go_forwards_and_backwards_in_turn(measure: ModuleType) -> None:
    order: list[str] = []
    found = measure.interleaved({name: lambda name=name: order.append(name) for name in "ab"}, device=CPU, rounds=3)
    assert order == [*"ab", *"abbaab"]  # one of each to warm up
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round(measure: ModuleType) -> None:
    assert measure.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == measure.Ratio(3.0, 2.0, 4.0)
    assert str(measure.Ratio(3.0, 2.0, 4.0)) == "3.00 (2.00 to 4.00)"


def test_the_floor_is_the_slower_of_operations_and_bytes(measure: ModuleType) -> None:
    limits = measure.Limits(100.0, 10.0)
    assert limits.floor(measure.Work(200, 10)) == 2.0
    assert limits.floor(measure.Work(100, 50)) == 5.0
    measured = measure.Limits.measure(CPU, size=32)
    assert measured.matrix_rate > 0
    assert measured.bandwidth > 0


@pytest.mark.slow
def test_peak_memory_sees_what_was_freed_again(measure: ModuleType) -> None:
    size = 1 << 26
    found = measure.peak_memory(lambda: float(torch.ones(size // 4).sum()), CPU)
    if found is None:
        pytest.skip("this system keeps no mark of the highest memory")
    assert 0.9 * size < found < 1.5 * size


def test_passes(measure: ModuleType) -> None:
    model = torch.nn.Linear(3, 2)
    assert measure.passes(model, lambda: (model(torch.ones(4, 3)).sum().backward(), model(torch.ones(1, 3)))) == (5, 4)


def test_a_table(measure: ModuleType) -> None:
    assert measure.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert f"torch {torch.__version__}" in measure.header(CPU)


@pytest.mark.slow
def test_passes_of_copies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], measure: ModuleType
) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    out = printed("passes.py", "--width 2 --batch 2 --rounds 1 --device cpu", monkeypatch, capsys)
    rows = [line.strip("| ").split(" | ")[0] for line in out.splitlines() if line.startswith(("| fp32", "| bf16"))]
    kinds = [
        f"{precision}, {name}" for precision in ("fp32", "bf16") for name in ("model", "folded", "folded, compiled")
    ]
    assert rows == kinds
    monkeypatch.setattr(torch, "compile", lambda forward, **_: lambda x: -forward(x))
    out = printed("passes.py", "--width 2 --batch 2 --rounds 1 --device cpu", monkeypatch, capsys)
    assert "the logits of one differ by 2 of their size" in out
    assert "folded, compiled" not in out
