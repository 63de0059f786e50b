"""Every test has a current folder of its own with small images; one finished campaign is shared."""

import shutil
from pathlib import Path

import pytest
from campaign.campaign_runs import plan, run, write_images


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUAT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    write_images(tmp_path / "images.npz")


@pytest.fixture(autouse=True)
def _no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing TensorBoard takes longer than all the rest."""
    monkeypatch.setattr("nuat.training.run.TensorBoard", _NoTracker)


class _NoTracker:
    def start(self, run: object) -> None:
        """Open nothing."""

    def log(self, epoch: int, metrics: object) -> None:
        """Draw nothing."""

    def finish(self, results: object, pictures: object) -> None:
        """Close nothing."""


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("nuat.training.run.TensorBoard", _NoTracker)
        write_images(folder / "images.npz")
        assert set(run(plan()).values()) == {"done"}
    return folder / "out"


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """``out``: a finished run of the campaign ``FOUR``, which a test may spoil."""
    return Path(shutil.copytree(_finished, tmp_path / "out")).relative_to(tmp_path)
