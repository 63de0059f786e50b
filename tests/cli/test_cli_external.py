"""A stranger's model on the command line: ``nuat evaluate file.py:function``."""

import json
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine

MODEL = """
import torch
from torch import nn

import scale  # of the same folder


class Bars(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 8, 8))
        for label in range(3):
            self.weight.data[label, label * 8 // 3 : (label + 1) * 8 // 3] = scale.SCALE

    def forward(self, x):
        return (self.weight * x).sum(dim=(2, 3))


def make():
    return Bars()


def broken():
    raise RuntimeError("no weights here")


def number():
    return 3


def hollow():
    return torch.nn.Linear(2, 2, device="meta")
"""


@pytest.fixture
def stranger(tmp_path: Path, images: Path) -> Path:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "theirs" / "bars.py").write_text(MODEL)
    return Path("theirs/bars.py")


def test_it_is_attacked_and_written(stranger: Path, images: Path, nuat: CommandLine) -> None:
    ended = nuat("evaluate", f"{stranger}:make", "--data.path", images, "--eps", "0.05", "--attacks", "clean,fgsm")
    assert ended.code == 0, ended.err
    (file,) = Path().glob("evaluation-*.json")
    found = json.loads(file.read_text())
    assert found["eps"] == 0.05
    assert found["results"][0]["accuracy"] > 0.9
    assert "warning" not in ended.out


def test_its_scaling_is_questioned(stranger: Path, images: Path, nuat: CommandLine) -> None:
    Path("theirs/bars.py").write_text(MODEL.replace("(self.weight * x)", "(self.weight * (x - 100).clamp(0))"))
    ended = nuat("evaluate", f"{stranger}:make", "--data.path", images, "--eps", "0.05", "--attacks", "clean")
    assert "after pixels from 0 to 255" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("mak", "the file has no 'mak'. Did you mean 'make'?"),
        ("broken", "theirs/bars.py, line 24: RuntimeError: no weights here"),
        ("number", "returned a int; expected a torch.nn.Module"),
        ("", "the file has no ''. It defines Bars, make, broken, number, hollow."),
        ("hollow", "NotImplementedError: Cannot copy out of meta tensor"),
    ],
)
def test_functions_that_give_no_model(
    function: str, says: str, stranger: Path, images: Path, nuat: CommandLine
) -> None:
    ended = nuat("evaluate", f"{stranger}:{function}", "--data.path", images, "--eps", "0.05")
    assert ended.code == 2
    assert says in ended.err
    assert not list(Path().glob("evaluation-*"))


def test_a_file_that_cannot_be_run(stranger: Path, images: Path, nuat: CommandLine) -> None:
    stranger.write_text("import no_such_module_anywhere\n")
    ended = nuat("evaluate", f"{stranger}:make", "--data.path", images, "--eps", "0.05")
    assert ended.code == 2
    assert "theirs/bars.py, line 1: ModuleNotFoundError" in ended.err
    stranger.write_text("import sys\nsys.exit('install foo first')\n")
    ended = nuat("evaluate", f"{stranger}:make", "--data.path", images, "--eps", "0.05")
    assert ended.code == 2
    assert "theirs/bars.py, line 2: SystemExit: install foo first" in ended.err
    ended = nuat("evaluate", "none.py:make", "--data.path", images, "--eps", "0.05")
    assert (ended.code, "none.py: no such file" in ended.err) == (2, True)


def test_what_only_the_user_knows(stranger: Path, images: Path, nuat: CommandLine) -> None:
    assert "give --eps 8/255" in nuat("evaluate", f"{stranger}:make", "--data.path", images).err
    assert "--data.name or --data.path" in nuat("evaluate", f"{stranger}:make", "--eps", "0.1").err
    both = nuat("evaluate", f"{stranger}:make", "--data.path", images, "--eps=0.1", "--attacks=clean", "--suite=paper")
    assert both.code == 2
    assert "--suite has no effect together with --attacks" in both.err


@pytest.mark.slow
def test_suites(run: Path, trained: Path, nuat: CommandLine) -> None:
    ended = nuat("evaluate", run, "--suite", "quick", "--n", "6", "--json", "out.json")
    assert ended.code == 0, ended.err
    assert [row["name"] for row in json.loads(Path("out.json").read_text())["results"]] == [
        "clean",
        "pgd-100",
        "gama-100",
    ]
    assert "paper" in nuat("evaluate", run, "--suite", "papr").err
