"""Settings that only image folders know: the classes of ImageNet-100, and refusals elsewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuat.config import DataConfig
from nuat.data import folders, load
from nuat.errors import InputError


def failure(**settings) -> str:
    """The message of the refusal, which must be one line."""
    with pytest.raises(InputError) as caught:
        load(DataConfig(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def npz(tmp_path) -> Path:
    x, y = np.zeros((4, 4, 4), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "set.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return tmp_path / "set.npz"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loading": "stream", "image_size": 8}, ("data.loading=stream", "no effect", "the file", "set.npz")),
        ({"on_bad": "skip"}, ("data.on_bad=skip", "no effect", "set.npz")),
        ({"subset": "imagenet100"}, ("data.subset=imagenet100", "no effect", "set.npz")),
    ],
)
def test_what_only_folders_know_is_refused_for_a_file(npz, settings, words):
    message = failure(path=npz, validation=0, **settings)
    for word in words:
        assert word in message


@pytest.mark.slow
def test_the_classes_of_imagenet100_alone_are_kept(tmp_path):
    chosen = sorted(folders.imagenet100())
    assert len(chosen) == 100
    assert all(re.fullmatch(r"n\d{8}", name) for name in chosen)
    root = tmp_path / "imagenet"
    for part in ("train", "val"):
        for name in (*chosen, "n00000001", "n99999999"):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4), 7).save(root / part / name / "a.png")
    settings = {"path": root, "cache": tmp_path / "cache", "validation": 0}
    dataset = load(DataConfig(**settings, subset="imagenet100"))
    assert dataset.classes == tuple(chosen)
    assert (len(dataset.train), len(dataset.test)) == (100, 100)
    assert dataset.source == f"image folder {root} (imagenet100)"
    assert len(load(DataConfig(**settings)).classes) == 102
    for name in chosen[:2]:
        (root / "train" / name / "a.png").unlink()
        (root / "train" / name).rmdir()
    message = failure(**settings, subset="imagenet100")
    assert f"{root / 'train'} has no class folder {chosen[0]} (and 1 more) of the 100" in message
