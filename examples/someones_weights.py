"""Believe somebody's weights or not: a file of theirs, evaluated, diagnosed, and shown on one page.

The file is made here, as training scripts of others make them: the weights of a network in plain PyTorch, under the
names of a wrapper and beside other entries, for images that their data loader normalises. ``nuat`` gets the file, the
class of the network, and the mean and standard deviation that it asks for itself.
"""

import argparse
import io
import json
import re
import sys
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from runpy import run_path

import torch
from torch import nn
from torch.nn import functional as F

from nuat.cli import main as nuat
from nuat.config import DataConfig
from nuat.data import load, to_float

ON_DIGITS = ("--eps", "0.2", "--data.name", "mnist-sample")


THEIR_CODE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.answer = nn.Sequential(nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, x):
        return self.answer(self.trunk(x))
"""


class TheirModule(nn.Module):
    """Their wrapper for training, as of Lightning: the network and what the loss needs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("class_weights", torch.ones(10))


def their_training(file: Path) -> None:
    """Train without a defense on images in [-1, 1], and save a checkpoint."""
    Path("their_code.py").write_text(THEIR_CODE)
    torch.manual_seed(0)
    digits, module = load(DataConfig(name="mnist-sample")).train, TheirModule(run_path("their_code.py")["Net"]())
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    for _ in range(3):
        for part in torch.randperm(len(digits)).split(64):
            x = (to_float(digits.images[part]) - 0.5) / 0.5
            loss = F.cross_entropy(module.net(x), digits.labels[part].long(), module.class_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    hyper_parameters = argparse.Namespace(lr=2e-3, batch_size=64)
    torch.save({"epoch": 3, "state_dict": module.state_dict(), "hyper_parameters": hyper_parameters}, file)


def run(*words: str) -> tuple[int, str]:
    """Call the command line; return its exit code and everything that it printed, in one line."""
    print("$ nuat", *words, flush=True)
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        code = nuat(list(words))
    print(printed.getvalue(), flush=True)
    return code, " ".join(printed.getvalue().split())


def main() -> None:
    their_training(Path("theirs.ckpt"))

    code, said = run("evaluate", "theirs.ckpt", *ON_DIGITS)
    assert code == 2, "a file does not say which network its weights are for"
    assert "--model FILE.py:NAME, the class or function that builds it" in said, said

    theirs = ("theirs.ckpt", "--model", "their_code.py:Net")
    code, said = run("evaluate", *theirs, *ON_DIGITS, "--n", "200", "--attacks", "clean", "--json", "first.json")
    asked = re.search(r"--mean (\S+) --std (\S+) ", said)
    assert asked is not None, "images in [0, 1] are not what it was trained on"
    theirs = (*theirs, "--mean", asked[1], "--std", asked[2])

    code, said = run("evaluate", *theirs, *ON_DIGITS, "--n", "100", "--json", "theirs/evaluation.json")
    assert code == 0
    assert "seems to expect" not in said, said
    results = {
        one["name"]: one["accuracy"] for one in json.loads(Path("theirs/evaluation.json").read_text())["results"]
    }
    assert results["clean"] > 0.9, results
    assert results["pgd-100"] < 0.3, results  # trained without a defense

    code, said = run("diagnose", *theirs, *ON_DIGITS, "--n", "50", "--quick", "--json", "theirs/diagnosis.json")
    assert code in (0, 1), "1: a check failed"
    diagnosis = json.loads(Path("theirs/diagnosis.json").read_text())
    assert sum(diagnosis["counts"].values()) == len(diagnosis["verdicts"]) >= 10

    code, said = run("report", "theirs", "--out", "theirs.html")
    assert code == 0
    page = Path("theirs.html").read_text()
    assert f"{results['clean']:.1%}".rstrip("%") in page


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    with chdir(folder):
        main()
    print(f"see {folder / 'theirs.html'}")
