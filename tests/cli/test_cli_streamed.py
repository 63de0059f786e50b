"""Commands on a run whose images are streamed: each decodes the test images that it needs, and no more."""

import itertools
import json
import os
import signal
from pathlib import Path

import pytest
from cli.cli_runs import CommandLine
from diagnostics.masked_models import shorten
from image_files import write_folder, write_shards

from nuat.data import ImageSet, StreamedSet, memory, streaming
from nuat.data.samples import Samples
from nuat.evaluation.results import Evaluation

STREAMED = (
    "--data.loading", "stream", "--data.workers", "1", "--data.image-size", "12", "--data.eval-resize", "14",
    "--data.crop-padding", "0", "--data.crop-scale", "0.4", "--data.flip", "true", "--data.validation", "6",
    "--model.name", "wrn-10-1", "--model.width", "none", "--epochs", "2", "--batch-size", "16", "--precision", "fp32",
    "--threat.eps", "0.05", "--threat.pgd-alpha", "0.02", "--evaluation.attacks", "clean,pgd-2", "--evaluation.n", "5",
)  # fmt: skip
TEST = 240


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pets", {"train": 54, "val": TEST})
    return Path("pets")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each selection decoded."""
    counts: list[int] = []
    original = memory.decode_evaluated

    def counting(samples: Samples, *rest: object) -> ImageSet:
        counts.append(len(samples))
        return original(samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(streaming, "decode_evaluated", counting)
    return counts


@pytest.mark.slow
def test_a_streamed_run_is_trained_evaluated_drawn_exported_and_analysed(
    nuat: CommandLine, folder: Path, decoded: list[int], figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nuat.done("train", "nuat-wa-cifar10-resnet18", "--data.path", folder, "--out", "run", *STREAMED)
    assert (Path("run") / "examples.png").is_file()
    # validation twice (the run, and its evaluation), five test images, ten of the figure
    assert sorted(decoded) == [5, 6, 6, 10]
    decoded.clear()

    nuat.done("evaluate", "run", "--attacks", "clean", "--n", "7", "--json", "seven.json")
    assert Evaluation.from_json(json.loads(Path("seven.json").read_text())).n == 7
    assert sorted(decoded) == [6, 7]
    decoded.clear()

    nuat.done("analyse", "eps-curve", "run", "--n", "4", "--radii", "0,0.05", "--steps", "2")
    nuat.done("analyse", "loss-surface", "run", "--images", "2", "--resolution", "3")
    nuat.done("analyse", "confusion", "run", "--batch-size", "4", "--batches", "1")
    assert sum(decoded) < TEST / 2
    decoded.clear()

    nuat.done("export", "run", "--format", "onnx", "--out", "run.onnx")
    assert sum(decoded) < TEST / 2
    decoded.clear()

    shorten(monkeypatch)
    assert nuat("diagnose", "run", "--n", "6").code in (0, 1)
    # six for the attacks, 32 that are timed, and training images for a substitute
    assert set(decoded) <= {6, 32, 48, 200}


@pytest.mark.slow
def test_a_run_whose_decoder_died_goes_on_as_the_message_says(
    nuat: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "nuat-wa-cifar10-resnet18", "--data.path", folder, "--out", "run", *STREAMED]
    calls = itertools.count()
    original = StreamedSet._next

    def dying(self: StreamedSet) -> object:
        if next(calls) == 4:  # in the second epoch
            for process in self._processes:
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
            self._making = itertools.dropwhile(lambda _: True, self._making)  # what it had made before
        return original(self)

    monkeypatch.setattr(StreamedSet, "_next", dying)
    ended = nuat(*command)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert ended.err.count("a process that decodes images has died") == 1
    for words in (("--data.workers",), ("--out", "RUN"), ("--auto-resume", "true")):
        assert " ".join(words) in ended.err
    command[command.index("--data.workers") + 1] = "0"
    nuat.done(*command, "--auto-resume", "true")


@pytest.mark.slow
def test_a_missing_shard_and_settings_without_effect_are_refused(nuat: CommandLine, folder: Path) -> None:
    shards = write_shards(Path("shards"), {"train": 20, "val": 6})
    (shards / "train" / "set-000001.tar").unlink()
    line = nuat.refused("train", "--data.path", shards, "--data.image-size", "12")
    assert "shard set-000001.tar is missing of 4" in line
    assert "data.workers=2 has no effect" in nuat.refused("train", "--data.path", folder, "--data.workers", "2")
    assert "data.loading=stream has no effect" in nuat.refused("train", "--data.loading", "stream")
