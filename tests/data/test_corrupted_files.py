"""Folders like CIFAR-10-C and ImageNet-C: the right images, and one line on what does not fit."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from corrupted_files import colours, shifted, write_arrays, write_folders

from nuat.data import ImageSet
from nuat.data.corrupted_files import read_corrupted
from nuat.data.corruptions import CORRUPTIONS
from nuat.errors import InputError

N = 12
IMAGES = colours(N)
CLASSES = ("ant", "bee", "cat")
POSITIONS = torch.tensor([1, 4, 5, 11])


@pytest.mark.parametrize(
    "write", [write_arrays, lambda folder, images, names: write_folders(folder, images, CLASSES, names)]
)
def test_an_image_is_that_of_the_test_set(tmp_path: Path, write: Callable[..., Path]) -> None:
    folder = write(tmp_path / "c", IMAGES, ("fog", "gaussian_noise"))
    found = read_corrupted(folder, IMAGES, CLASSES, POSITIONS)
    assert found.names == ("gaussian_noise", "fog")  # in the order of the paper
    assert found.seed is None
    assert found.notes == ()
    for name in found.names:
        for severity in (1, 4):
            whole = torch.from_numpy(shifted(IMAGES, name, severity)).permute(0, 3, 1, 2)
            taken = found.take(name, severity, torch.tensor([3, 0]))
            assert torch.equal(taken, whole[[11, 1]])
            assert taken.is_contiguous()


def test_the_source_tells_folders_of_other_content_apart(tmp_path: Path) -> None:
    a, b = (write_arrays(tmp_path / name / "x", IMAGES, ("fog",)) for name in "ab")
    first, second = (read_corrupted(folder, IMAGES, (), POSITIONS).source for folder in (a, b))
    assert first == second
    assert first.startswith("files of x, sha256 ")
    pixels = np.load(b / "fog.npy")
    pixels[3 * N + 4] ^= 1
    np.save(b / "fog.npy", pixels)
    assert read_corrupted(b, IMAGES, (), POSITIONS).source != first


def test_folders_of_categories_and_other_files(tmp_path: Path) -> None:
    write_folders(tmp_path / "c" / "weather", IMAGES, CLASSES, ("fog",))
    (tmp_path / "c" / "extra").mkdir()
    found = read_corrupted(tmp_path / "c", IMAGES, CLASSES, POSITIONS)
    assert found.names == ("fog",)
    assert found.notes == (f"{tmp_path / 'c'}: 1 other file passed over, none of the 15 corruptions: extra",)


def test_the_other_corruptions_of_cifar_10_c_are_named(tmp_path: Path) -> None:
    folder = write_arrays(tmp_path, IMAGES, ("fog",))
    for name in ("saturate", "spatter"):
        shutil.copy(folder / "fog.npy", folder / f"{name}.npy")
    (note,) = read_corrupted(folder, IMAGES, (), POSITIONS).notes
    assert note.endswith("2 other files passed over, none of the 15 corruptions: saturate.npy, spatter.npy")


def _labels(folder: Path) -> None:
    labels = np.load(folder / "labels.npy")
    labels[[0, 2 * N, N + 1]] = 2
    np.save(folder / "labels.npy", labels)


def _archive(folder: Path) -> None:
    with (folder / "fog.npy").open("wb") as file:
        np.savez(file, x=np.zeros(3))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: shutil.rmtree(f), "no such folder; expected <corruption>.npy with labels.npy"),
        (
            lambda f: (f / "fog.npy").rename(f / "haze.npy"),
            "holds none of the 15 corruptions; found haze.npy, labels.npy",
        ),
        (lambda f: (f / "labels.npy").unlink(), "labels.npy: is missing"),
        (_labels, "the labels of 2 of 12 images are not those of the test set"),
        (lambda f: np.save(f / "labels.npy", np.zeros(N)), "labels.npy: is float64 [12]; expected whole numbers [60]"),
        (
            lambda f: np.save(f / "fog.npy", np.load(f / "fog.npy")[:N]),
            "expected uint8 [60, 6, 6, 3], the 12 test images",
        ),
        (lambda f: np.save(f / "fog.npy", np.load(f / "fog.npy") / 255), "fog.npy: is float64"),
        (lambda f: np.save(f / "fog.npy", np.array([{}]), allow_pickle=True), "cannot be read as an array"),
        (lambda f: (f / "fog.npy").write_bytes((f / "fog.npy").read_bytes()[:200]), "cannot be read as an array"),
        (_archive, "fog.npy: is an archive; expected an array of NumPy, .npy"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, spoil: Callable[[Path], None], told: str) -> None:
    folder = write_arrays(tmp_path / "c", IMAGES, ("fog",))
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(told)) as refused:
        read_corrupted(folder, IMAGES, (), POSITIONS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: shutil.rmtree(f / "fog" / "3"), "3/ant: holds 0 images; expected 4"),
        (lambda f: (f / "fog" / "5" / "cat" / "0002.png").unlink(), "5/cat: holds 3 images; expected 4"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, spoil: Callable[[Path], None], told: str) -> None:
    folder = write_folders(tmp_path / "c", IMAGES, CLASSES, ("fog",))
    spoil(folder)
    with pytest.raises(InputError, match=re.escape(told)):
        read_corrupted(folder, IMAGES, CLASSES, POSITIONS)


def test_sets_that_folders_cannot_show_are_refused(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, IMAGES, CLASSES, ("fog",))
    wide = ImageSet(IMAGES.images[..., :5], IMAGES.labels)
    with pytest.raises(InputError, match="the test images are 6 x 5; folders of images need square ones"):
        read_corrupted(folder, wide, CLASSES, POSITIONS)
    with pytest.raises(InputError, match="the test set has 3 classes and 2 names; name all of them"):
        read_corrupted(folder, IMAGES, CLASSES[:2], POSITIONS)


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    folder = write_arrays(tmp_path / "c\x1b[31m", IMAGES, ("fog",))
    shutil.copy(folder / "fog.npy", folder / "x\n.npy")
    found = read_corrupted(folder, IMAGES, (), POSITIONS)
    assert found.source.startswith("files of c\\x1b[31m, sha256 ")
    assert found.notes[0].endswith(r"c\x1b[31m: 1 other file passed over, none of the 15 corruptions: x\n.npy")


def test_a_damaged_image_is_named_when_it_is_taken(tmp_path: Path) -> None:
    folder = write_folders(tmp_path, IMAGES, CLASSES, ("fog",))
    (folder / "fog" / "2" / "bee" / "0001.png").write_bytes(b"no picture")
    found = read_corrupted(folder, IMAGES, CLASSES, POSITIONS)
    with pytest.raises(InputError, match=r"fog/2/bee/0001.png cannot be read as an image"):
        found.take("fog", 2, torch.tensor([0]))


def test_the_15_are_those_of_the_paper() -> None:
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 15
