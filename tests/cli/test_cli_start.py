"""Answers that do not wait for torch, and imports that wait until they are needed."""

import os
import signal
import subprocess
import sys

import pytest

from nuat.__main__ import start

_RUN = """
import sys
from nuat.cli import main
code = main(sys.argv[1:])
print(f"code {code}, imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(*arguments: str, code: int = 0) -> set[str]:
    """Return the packages that a process of the command line has imported by its end."""
    command = [sys.executable, "-c", _RUN, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    said, _, names = ended.stderr.splitlines()[-1].partition(", imported: ")
    assert said == f"code {code}", ended.stderr
    return set(names.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["recipes"], 0),
        (["recipes", "--table", "1a"], 0),
        (["recipes", "--help"], 0),
        (["recipes", "--table", "1c"], 2),
        (["trian"], 2),
        ([], 2),
        (["train", "quickstrt"], 2),
        (["train", "nowhere.py:recipe"], 2),
    ],
)
def test_answered_without_torch(arguments: list[str], code: int) -> None:
    found = imported(*arguments, code=code)
    assert "nuat" in found
    assert not found & {"torch", "torchvision", "numpy", "matplotlib", "tensorboard"}
    if arguments[:1] not in (["recipes"], ["train"]):  # one line needs no table and no parser
        assert not found & {"rich", "tyro"}


class _Interrupted:
    """Finder that a Ctrl-C meets when the module of the command line is imported."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "nuat.cli":
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_during_the_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "nuat.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Interrupted, *sys.meta_path])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # torch's launcher leaves its own behind
    try:
        assert start() == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("", "\nnuat: interrupted\n")


_LATER = """
import sys
from nuat.cli import main
from nuat.config import DataConfig
from nuat.data import load
assert main(["train", "quickstart", "--help"]) == 0
import nuat.commands.analyse
load(DataConfig())
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.slow
def test_slow_packages_wait_until_they_are_needed() -> None:
    """Training on the sample begins without them, and figures are measured without them."""
    ended = subprocess.run([sys.executable, "-c", _LATER], capture_output=True, text=True, check=True)
    found = set(ended.stderr.split())
    assert "torch" in found
    assert not found & {"matplotlib", "pandas", "tensorboard", "torchvision"}
    assert not found & {"foolbox", "onnx", "pyautoattack", "torchattacks"}
