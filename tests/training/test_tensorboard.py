"""TensorBoard as a tracker: hyperparameters, pictures, results, and a disk that is full."""

from pathlib import Path
from typing import BinaryIO

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from training.small_runs import Watcher, small_config, write_images

import nuat
from nuat.training.tensorboard import TensorBoard
from nuat.training.trackers import TrackedRun, Tracking


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def test_hyperparameters_pictures_and_results(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    with Tracking([TensorBoard()], watcher) as tracking:
        nuat.run(small_config(images), out=tmp_path / "run", recipe="mine", trackers=tracking)
        tracking.results["test/clean"] = 0.75
    assert not [text for text in watcher.messages if "TensorBoard" in text]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    (picture,) = events.Images("validation images, clean and attacked")
    assert (picture.height, picture.width, picture.step) == (16, 64, 2)
    assert [(event.step, event.value) for event in events.Scalars("test/clean")] == [(2, 0.75)]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    begun = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert begun.hparams["recipe"].string_value == "mine"
    assert begun.hparams["threat.eps"].number_value == pytest.approx(0.1)
    assert begun.hparams["data.flip"].number_value == 1
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    columns = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    names = {column.name.tag for column in columns}
    assert names == {"final/best_validation", "test/clean", "test/worst-case"}
    assert names <= {*events.Tags()["scalars"], "test/worst-case"}
    assert "_hparams_/session_end_info" in events.summary_metadata


class Full:
    """A writer of records whose disk is full after the first."""

    files: list[BinaryIO] = []  # noqa: RUF012  # of the one that the tracker makes

    def __init__(self, file: BinaryIO) -> None:
        self.writes = 0
        self.files.append(file)

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes > 4:
            raise OSError(28, "No space left on device")


def test_a_full_disk_is_said_in_one_line_and_ends_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Raised in the run rather than in a thread of a writer, which would print a trace."""
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter", Full)
    watcher = Watcher()
    finished = nuat.run(small_config(images), out=tmp_path / "run", reporter=watcher)
    assert finished.summary["epochs"] == 2
    (said,) = [text for text in watcher.messages if "TensorBoard" in text]
    assert said == "warning: TensorBoard follows the run no more: [Errno 28] No space left on device"
    assert capfd.readouterr().err == ""
    assert Full.files[-1].closed  # a buffer that is written later would raise where nobody expects it


def test_a_folder_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TensorBoard().start(TrackedRun(id="0", folder=tmp_path / "gone", recipe="mine", settings={}))
    assert not (tmp_path / "gone").exists()


def test_a_run_without_settings_of_an_evaluation_is_followed_too(tmp_path: Path) -> None:
    board = TensorBoard()
    board.start(TrackedRun(id="0", folder=tmp_path, recipe="mine", settings={"lr": 0.1, "path": None, "sizes": [1, 2]}))
    board.log(1, {"lr": 0.1})
    board.finish({}, {})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["lr"]
