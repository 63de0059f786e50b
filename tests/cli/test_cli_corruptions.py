"""``nuat evaluate --suite corruptions`` and ``nuat compare`` of its results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.cli_runs import CLASSES, TEST, CommandLine, arrays, write_npz
from corrupted_files import results, write_arrays

from nuat.data import ImageSet
from nuat.records.corruptions import read_corruptions

STRANGER = f"""
from torch import nn

def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(({CLASSES}, 1)), nn.Flatten(), nn.Linear({CLASSES} * 3, {CLASSES}))
"""


@pytest.fixture
def theirs() -> tuple[str, ...]:
    """A model that nuat did not train, and its images of 8 x 8 pixels in three channels, in the current folder."""
    Path("their.py").write_text(STRANGER)
    write_npz(Path("colours.npz"), **arrays(channels=3))
    return "their.py:make", "--data.path", "colours.npz"


def corrupted(folder: str, *names: str, **changes: Any) -> str:
    """Write a folder like CIFAR-10-C of the test images."""
    made = arrays(channels=3)
    images = ImageSet(torch.from_numpy(made["x_test"]).permute(0, 3, 1, 2), torch.from_numpy(made["y_test"]))
    return str(write_arrays(Path(folder), images, names))


def test_files_of_corrupted_images(nuat: CommandLine, theirs: tuple[str, ...]) -> None:
    folder = corrupted("C", "snow", "fog")
    ended = nuat("evaluate", *theirs, "--suite", "corruptions", "--corruptions", folder, "--n", 20, "--json", "a.json")
    assert (ended.code, ended.err) == (0, "")
    found = read_corruptions(Path("a.json"))
    assert (found.n, tuple(found.correct)) == (20, ("snow", "fog"))
    told = " ".join(ended.out.split())
    for word in (
        "mean of 2 found, of 15",
        "not there: gaussian_noise",
        "(13 of 15)",
        "files of C",
        "written to a.json",
    ):
        assert word in told
    assert f"{100 * found.accuracy('fog', 5):.1f}" in told
    assert not list(Path().glob("*.partial.json"))


@pytest.mark.slow
def test_a_comparison_of_two_results(nuat: CommandLine, run: Path) -> None:
    Path("theirs").mkdir()
    results(share=0.8).save(run / "corruptions-1.json")
    results(seed=50).save(Path("theirs") / "corruptions.json")
    told = nuat.done("compare", run / "corruptions-1.json", "theirs").out
    for word in ("corruption ", "jpeg_compression", "mean of 15: A is better, a real difference"):
        assert word in told
    assert "jpeg_compression:" not in told  # a sentence for clean and for the mean alone
    assert "pgd" not in told
    both = nuat.done("compare", run, run).out  # attacks and corruptions
    assert "pgd-3" in both
    assert "mean of 15" in both


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--eps", "0.1"), "--eps has no effect with --suite corruptions, which attacks nothing"),
        (("--norm=L2",), "--norm has no effect"),
        (("--also", "L2:1"), "--also has no effect"),
        (("--per-class",), "--per-class has no effect"),
        (("--compile",), "--compile has no effect"),
        (("--aa", "fast"), "--aa has no effect"),
        (("--pgd_alpha", "0.1"), "--pgd-alpha has no effect"),
        (("--black-box",), "--black-box has no effect"),
        (("--seed", "1", "--corruptions", "C"), "--seed has no effect on corrupted images from files"),
        (("--corruptions", "nowhere"), "nowhere: no such folder"),
        ((), "from 32 x 32 pixels on; these have 8 x 8"),
    ],
)
def test_what_is_refused(nuat: CommandLine, theirs: tuple[str, ...], options: tuple[str, ...], told: str) -> None:
    assert told in nuat.refused("evaluate", *theirs, "--suite", "corruptions", *options)


def test_grey_images_are_refused(nuat: CommandLine, run: Path) -> None:
    assert "three channels (RGB); these have 1" in nuat.refused("evaluate", run, "--suite", "corruptions")


def test_a_folder_without_the_suite_has_no_effect(nuat: CommandLine, run: Path) -> None:
    assert "--corruptions has no effect without --suite corruptions" in nuat.refused(
        "evaluate", run, "--corruptions", "C"
    )


def test_a_file_of_attacks_is_not_replaced(nuat: CommandLine, theirs: tuple[str, ...]) -> None:
    folder = corrupted("C", "fog")
    Path("old.json").write_text(json.dumps({"format": 2, "results": [], "indices": []}))
    refused = nuat.refused("evaluate", *theirs, "--suite=corruptions", "--corruptions", folder, "--json", "old.json")
    assert "was not written by this command" in refused


@pytest.mark.slow
def test_the_packages_corruptions_on_the_command_line(nuat: CommandLine, theirs: tuple[str, ...]) -> None:
    pytest.importorskip("imagecorruptions", exc_type=ImportError)
    write_npz(Path("colours.npz"), **arrays(channels=3, size=32))
    command = ("evaluate", *theirs, "--suite", "corruptions", "--n", 6, "--seed", 5)
    for name in ("a.json", "b.json"):
        assert nuat(*command, "--json", name).code == 0
    a, b = (read_corruptions(Path(name)) for name in ("a.json", "b.json"))
    assert (a.missing, a.seed, a.n) == ((), 5, 6)
    assert all(torch.equal(a.correct[name], b.correct[name]) for name in a.correct)
    assert np.isclose(a.accuracy(), b.accuracy())
    assert TEST >= 6
