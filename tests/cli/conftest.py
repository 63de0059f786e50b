"""Every test has an empty current folder and a cache of its own; one trained run is shared."""

import shutil
from pathlib import Path

import pytest
from cli.cli_runs import FAST, CommandLine, draw_nothing, write_npz

from nuat.cli import main


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than everything else together; a test that asks for ``figures`` gets them."""
    if "figures" not in request.fixturenames:
        draw_nothing(monkeypatch)


@pytest.fixture
def figures() -> None:
    """Let a run draw its figures."""


@pytest.fixture
def nuat(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images.npz and a finished run on it; copy it before changing it."""
    folder = tmp_path_factory.mktemp("trained")
    images = write_npz(folder / "images.npz")
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        assert main(["train", *FAST, "--data.path", str(images), "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil; its images stay where they are."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run")).relative_to(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Good images, images.npz in the current folder."""
    write_npz(tmp_path / "images.npz")
    return Path("images.npz")
