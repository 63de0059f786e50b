"""What the loop tells within an epoch, and which errors of a run become one line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_runs import Watcher, small_config, write_images

from nuat.config import AveragingConfig
from nuat.distributed.world import ALONE, PeerLostError, World
from nuat.errors import InputError
from nuat.progress import Reporter
from nuat.records.folder import RunFolder
from nuat.training import run
from nuat.training.run import Loop
from nuat.training.signals import StopRequest


class Two(World):
    """Two processes that agree."""

    def any(self, flag: bool, *, patient: bool = False) -> bool:
        return flag


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def loop_of(images: Path, out: Path, reporter: Reporter, **settings: Any) -> Loop:
    return Loop(small_config(images, **settings), RunFolder(out), "test", torch.device("cpu"), reporter)


@pytest.mark.parametrize("world", [ALONE, Two(size=2)], ids=["alone", "two"])
def test_skipped_updates_are_told_within_an_epoch(
    world: World, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_of(images, tmp_path, Reporter())
    told: list[int] = []

    def skip(batches: Sequence[Any]) -> None:
        loop.state.step += 1
        loop.state.batch += len(batches)

    monkeypatch.setattr(loop, "train_batches", skip)
    monkeypatch.setattr(loop, "_tell_skipped", lambda: told.append(loop.state.step))
    monkeypatch.setattr(run, "_ASK_EVERY", 1)
    loop.world = world
    loop.train_epoch(StopRequest())
    assert told[0] == 1 < told[-1]


def test_settings_that_do_little_are_said_before_training(images: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    loop_of(images, tmp_path, watcher, averaging=AveragingConfig(tau=0.9998))
    assert any("of the weight average will still be the initial weights" in text for text in watcher.messages)


def test_an_image_that_cannot_be_read_is_this_process_alone(images: Path, tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        raise InputError("0012.png cannot be decoded")
        yield

    with pytest.raises(InputError, match="0012") as caught:
        loop_of(images, tmp_path, Reporter())._next(broken())
    assert caught.value.of_this_process


@pytest.mark.parametrize(
    ("size", "raised", "expected"),
    [
        (2, RuntimeError("gloo: Connection closed by peer"), PeerLostError),
        (1, RuntimeError("gloo: Connection closed by peer"), RuntimeError),
        (2, RuntimeError("shapes cannot be multiplied"), RuntimeError),
        (1, FileNotFoundError("a file of the user's own"), FileNotFoundError),
    ],
)
def test_only_a_lost_process_and_a_lost_folder_become_a_line(
    size: int, raised: Exception, expected: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(expected) as caught, run._clear_errors(RunFolder(tmp_path), World(size=size)):
        raise raised
    assert type(caught.value) is expected
