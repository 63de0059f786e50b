"""The script for a shell, tried in bash."""

import shutil
import subprocess

import pytest

from nuat import cli
from nuat.commands import completion
from nuat.recipes import RECIPES


def test_every_command_is_completed() -> None:
    assert {*completion._COMMANDS, "completion"} == set(cli._COMMANDS)


@pytest.fixture(scope="module")
def script() -> str:
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert cli.main(["completion", "bash"]) == 0
    return text.getvalue()


def completed(script: str, *words: str) -> list[str]:
    """Return what bash offers for the last of the words after ``nuat``."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    typed = " ".join(f"'{word}'" for word in ("nuat", *words))
    ask = f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _nuat; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("eval",), ["evaluate"]),
        (("train", "quick"), [name for name in RECIPES if name.startswith("quick")]),
        (("train", "quickstart", "--lr"), ["--lr"]),
        (("train", "quickstart", "--resu"), ["--resume"]),
        (("diagnose", "runs/a", "--qui"), ["--quick"]),
        (("evaluate", "qui"), ["quickstart"]),
        (("analyse", "cost"), ["cost"]),
        (("analyse", "loss-surface", "runs/a", "--data.pa"), ["--data.path"]),
        (("campaign", "table-1"), ["table-1a", "table-1b"]),
        (("compare", "runs/"), []),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: list[str], script: str) -> None:
    assert sorted(completed(script, *words)) == sorted(offered)


def test_zsh_takes_the_same_script(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(script)
    assert out.startswith("autoload -U +X compinit && compinit\n")
