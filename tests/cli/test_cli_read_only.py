"""A run in a folder that may be read and not written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from cli.cli_runs import CommandLine, files


@pytest.fixture(params=[errno.EACCES, errno.EROFS])
def shut(request: pytest.FixtureRequest, run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose folder refuses every new file (a superuser's tests cannot rely on permissions)."""
    make, access = Path.open, os.access
    inside = run.resolve()

    def within(path: Any) -> bool:
        return Path(path).resolve().is_relative_to(inside)

    def refused(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode[0] in "xwa" and within(path):
            raise OSError(request.param, os.strerror(request.param), str(path))
        return make(path, mode, *arguments, **keywords)

    def seen(path: Any, mode: int, **keywords: Any) -> bool:
        return access(path, mode, **keywords) and not (mode & os.W_OK and within(path))

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr("os.access", seen)
    # every batch is saved
    monkeypatch.setattr("nuat.evaluation.partial_results._SECONDS_BETWEEN_SAVES", -1.0)
    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "RUN", "--attacks", "clean,pgd-2", "--n", "6", "--json", "out.json"),
        ("compare", "RUN", "RUN"),
        ("report", "RUN", "--out", "out.html"),
        ("export", "RUN", "--format", "safetensors", "--out", "out.safetensors"),
    ],
)
def test_commands_that_read_work(arguments: tuple[str, ...], shut: Path, nuat: CommandLine) -> None:
    before = files(shut)
    nuat.done(*(str(shut) if word == "RUN" else word for word in arguments))
    assert files(shut) == before


def test_the_verdicts_on_a_run_in_a_read_only_folder_go_to_the_current_one(shut: Path, nuat: CommandLine) -> None:
    before = files(shut)
    said = nuat.done("evaluate", shut, "--attacks", "clean,pgd-2", "--n", "6").out
    (written,) = Path.cwd().glob("evaluation-*.json")
    assert f"written to {written.name}" in said
    assert files(shut) == before


def test_a_run_that_is_trained_on_is_refused_in_one_line(shut: Path, nuat: CommandLine) -> None:
    (shut / "evaluation.json").unlink()
    ended = nuat("train", "--resume", shut)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("nuat: error: ")
    assert str(shut) in ended.err
