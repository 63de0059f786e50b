"""Runs whose folders are called what markup, escapes and newlines look like."""

import shlex
import shutil
import signal
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine, Ended

from nuat import cli
from nuat.distributed.world import PeerLostError
from nuat.training.signals import Interrupted

NAMES = {
    "exp[lr=0.1]": "exp[lr=0.1]",
    "exp [/x] a": "exp [/x] a",
    "[bold]run[/bold]": "[bold]run[/bold]",
    "a\x1b[31mred": r"a\x1b[31mred",
    "two\nlines": r"two\nlines",
}
"""Name of a folder to how it is shown."""


@pytest.fixture(params=NAMES)
def named(request: pytest.FixtureRequest, run: Path) -> str:
    """The name of a finished run in the current folder."""
    Path(request.param).parent.mkdir(exist_ok=True)
    run.rename(request.param)
    return str(request.param)


@pytest.mark.slow
def test_each_command_shows_the_name_literally(named: str, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = NAMES[named]
    shutil.copy(Path(named) / "evaluation.json", Path(named) / "other.json")
    for arguments, told in (
        (("evaluate", named, "--attacks", "clean", "--n", "6"), f"written to {shown}/evaluation-"),
        (("compare", named, f"{named}/other.json"), f"A: {shown}"),
        (("export", named, "--format", "safetensors", "--out", f"{named}.safetensors"), f"written to {shown}.safet"),
        (("report", named, "--out", f"{named}.html"), f"{shown}.html"),
    ):
        assert told in nuat.done(*arguments).out


def test_an_error_shows_the_name_literally(named: str, nuat: CommandLine) -> None:
    (Path(named) / "best.safetensors").write_bytes(b"no weights")
    assert f"{NAMES[named]}/best.safetensors" in nuat.refused("evaluate", named, "--attacks", "clean")
    assert f"{NAMES[named]}/nothing" in nuat.refused("compare", f"{named}/nothing", named)


def test_an_interruption_shows_the_name_literally(nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise Interrupted(signal.SIGTERM, "stopped; finished parts are kept in a\x1b[31mred\nrun")

    monkeypatch.setattr("nuat.commands.models.models", interrupted)
    assert nuat("models") == Ended(143, "", "\nnuat: stopped; finished parts are kept in a\\x1b[31mred\\nrun\n")


def test_what_ended_another_process_shows_the_name_literally(
    nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(arguments: list[str]) -> int:
        raise PeerLostError("another process ended: a\x1b[31mred\nrun")

    monkeypatch.setattr("nuat.commands.models.models", lost)
    assert nuat("models") == Ended(1, "", "nuat: another process ended: a\\x1b[31mred\\nrun\n")


def test_a_warning_shows_the_name_literally() -> None:
    file = str(Path(cli.__file__).parent / "data" / "sources.py")
    line = cli._warning_line("a\x1b[31mred\nrun", RuntimeWarning, file, 1)
    assert line == "nuat: warning: a\\x1b[31mred\\nrun\n"


def test_training_shows_the_name_literally(named: str, nuat: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(named) / "evaluation.json").unlink()
    out = nuat.done("train", "--resume", named).out
    assert f"weights: {NAMES[named]}/best.safetensors\n" in out
    assert "\x1b" not in out
    (following,) = (line for line in out.splitlines() if line.startswith("next:"))
    assert shlex.split(following)[3] == NAMES[named]
