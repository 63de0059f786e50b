"""Images decoded into memory: the evaluation's own view of them, shards, and what the caches hold."""

import io

import numpy as np
import pytest
import torch
from image_files import write_folder, write_shards
from PIL import Image
from torchvision import transforms

from nuat.config import DataConfig
from nuat.data import load
from nuat.data.memory import place
from nuat.errors import InputError


@pytest.fixture
def tree(tmp_path):
    return write_folder(tmp_path / "set", {"train": 30, "test": 6}, kinds=("rgb.jpg", "rgb.webp"))


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_eval_resize_is_for_evaluations_alone(tree, tmp_path, loading):
    workers = 0 if loading == "stream" else None
    settings = {"path": tree, "cache": tmp_path / "cache", "image_size": 12, "validation": 6, "loading": loading}
    plain, other = (load(DataConfig(**settings, workers=workers, eval_resize=r)) for r in (None, 16))
    assert torch.equal(plain.validation_indices, other.validation_indices)
    bicubic = transforms.InterpolationMode.BICUBIC
    view = transforms.Compose([transforms.Resize(16, bicubic), transforms.CenterCrop(12)])

    def expected(part, indices):
        files = sorted((tree / part).rglob("*.*"), key=lambda file: file.parts)
        seen = [np.asarray(view(Image.open(io.BytesIO(files[i].read_bytes())).convert("RGB"))) for i in indices]
        return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2)

    every = torch.arange(6)
    assert torch.equal(other.test.select(every).images, expected("test", range(6)))
    assert torch.equal(other.validation.images, expected("train", other.validation_indices.tolist()))
    assert not torch.equal(plain.test.select(every).images, other.test.select(every).images)
    assert plain.train.fingerprint() == other.train.fingerprint(), "training images are as they were"


def test_shards_hold_the_images_of_the_same_folder(tmp_path):
    settings = {"cache": tmp_path / "cache", "image_size": 12, "validation": 0}
    files = load(DataConfig(path=write_folder(tmp_path / "files", {"train": 30, "test": 6}), **settings))
    shards = load(DataConfig(path=write_shards(tmp_path / "shards", {"train": 30, "test": 6}), **settings))
    by_class = torch.argsort(shards.train.labels, stable=True)  # a folder holds one class after the other
    assert torch.equal(shards.train.images[by_class], files.train.images)
    assert shards.channels == 3


def test_shards_of_several_sizes_need_an_image_size(tmp_path):
    root = write_shards(tmp_path / "shards", {"train": 9, "test": 3})
    with pytest.raises(InputError, match=r"set-00000\d\.tar: 00000\d\.\w+ is .* --data\.image-size"):
        load(DataConfig(path=root, cache=tmp_path / "cache", validation=0))


def test_colours_that_came_after_the_check_are_refused():
    with pytest.raises(InputError, match=r"a\.png has colours, but all images were grey when they were checked"):
        place(np.zeros((3, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8), "a.png")


def test_further_frames_are_said_by_the_cache_too(tree, tmp_path):
    images = [Image.fromarray(np.full((20, 20, 3), 90 + i, np.uint8)) for i in range(2)]
    images[0].save(tree / "test" / "a" / "several.gif", save_all=True, append_images=images[1:])
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="1 images have several frames or pages"):
            load(DataConfig(path=tree, cache=tmp_path / "cache", image_size=12, validation=0))
    assert list((tmp_path / "cache").rglob("*.npz"))


def test_a_refusal_keeps_no_pixels(tree, tmp_path):
    (tree / "test" / "a" / "0000.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0000\.jpg"):
        load(DataConfig(path=tree, cache=tmp_path / "cache", image_size=8, validation=0))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_the_name_of_a_folders_cache_stays(tree, tmp_path):
    """Pixels that took an hour to decode are still found."""
    import hashlib

    key = hashlib.sha256(f"nuat-folder-2 12 {tree.resolve()}".encode())
    for part in ("train", "test"):
        for name in "abc":
            for file in sorted((tree / part / name).iterdir()):
                status = file.stat()
                key.update(f"\0{file.relative_to(tree).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    load(DataConfig(path=tree, cache=tmp_path / "cache", image_size=12, validation=0))
    assert [path.name for path in (tmp_path / "cache" / "folders").iterdir()] == [f"{key.hexdigest()[:32]}.npz"]
