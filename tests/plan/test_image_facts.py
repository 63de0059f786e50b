"""The images that a plan is made for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import write_folder
from PIL import Image

from nuat import data
from nuat.config import DataConfig
from nuat.data.folders import imagenet100
from nuat.errors import InputError
from nuat.plan.image_facts import ImageFacts, image_facts, known_facts, made_up, training_sizes
from nuat.recipes import RECIPES


def streaming(**settings: Any) -> DataConfig:
    """Return the settings of images that are read as they are needed."""
    return DataConfig(path=Path("x"), loading="stream", **settings)


@pytest.mark.parametrize(
    ("config", "train", "shape", "classes"),
    [
        (DataConfig(name="cifar10", validation=1000), 49_000, (3, 32, 32), 10),
        (DataConfig(name="mnist", validation=500, train_limit=100), 100, (1, 28, 28), 10),
        (DataConfig(path=Path("imagenet"), validation=10_000), 1_271_167, (3, 224, 224), 1000),
        (DataConfig(path=Path("here/imagenet100"), validation=117), 128_000, (3, 224, 224), 100),
    ],
)
def test_data_sets_are_known_by_name(
    config: DataConfig, train: int, shape: tuple[int, int, int], classes: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = image_facts(config)
    assert (found.train, (found.channels, *found.size), found.classes) == (train, shape, classes)
    assert found.validation == config.validation
    assert known_facts(config).classes == classes


def test_the_sample_in_the_package_is_known_without_being_read() -> None:
    config = DataConfig(validation=200)
    found, there = image_facts(config), data.load(config)
    assert (found.train, found.validation, found.test) == (len(there.train), 200, len(there.test))
    assert (found.channels, found.size, found.classes) == (there.channels, there.image_size, len(there.classes))


def test_given_numbers_take_the_place_of_known_ones() -> None:
    found = image_facts(DataConfig(name="cifar10"), images=1000, classes=7, image_size=64)
    assert (found.train, found.classes, found.size, found.pixels) == (1000, 7, (64, 64), 3 * 64 * 64)
    assert found.source.endswith("given: 1000 images, 7 classes, 64 pixels")


def test_images_that_nothing_is_known_of_are_made_of_the_given_numbers(tmp_path: Path) -> None:
    config = DataConfig(path=tmp_path / "photos", validation=5, image_size=64)
    found = image_facts(config, images=1000, classes=7)
    assert (found.train, found.validation, found.classes, found.size) == (1000, 5, 7, (64, 64))
    assert known_facts(config) is None
    with pytest.raises(InputError, match=r"photos: its images are not known; give --images, --classes, or"):
        image_facts(config)
    with pytest.raises(InputError, match="give --classes, --image-size, or"):
        image_facts(DataConfig(path=tmp_path / "photos"), images=9)


def test_the_files_of_a_folder_are_counted(tmp_path: Path) -> None:
    for part, n in (("train", 6), ("val", 2)):
        for label in ("cat", "dog", "eel"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(tmp_path / part / label / f"{i}.png")
    (tmp_path / "train/cat/.hidden.png").write_bytes(b"")
    found = image_facts(DataConfig(path=tmp_path, validation=4))
    assert (found.train, found.validation, found.test, found.classes) == (14, 4, 6, 3)
    assert (found.channels, *found.size) == (3, 20, 30)
    files = [file.stat().st_size for file in tmp_path.glob("train/*/[0-9].png")]
    assert found.file_bytes == sum(files) / 18
    assert image_facts(DataConfig(path=tmp_path, validation=4, image_size=16)).size == (16, 16)
    shards = tmp_path / "shards/train"
    shards.mkdir(parents=True)
    (shards / "a-000000.tar").write_bytes(b"")
    with pytest.raises(InputError, match="its images are not known; give --images"):
        image_facts(DataConfig(path=tmp_path / "shards"))
    with pytest.raises(InputError, match="holds no images in classes"):
        image_facts(DataConfig(path=tmp_path / "train" / "cat"))
    flat = image_facts(DataConfig(path=tmp_path / "train", validation=3))
    assert (flat.train + flat.validation + flat.test, flat.validation, flat.classes) == (18, 3, 3)
    assert 1 <= flat.test <= 6


PARTS = {"train": 24, "val": 9, "test": 12}


@pytest.mark.parametrize(
    ("parts", "kinds", "settings"),
    [
        (PARTS, ("rgb.jpg",), {"train_limit": 7, "validation": 4, "image_size": 8}),
        (PARTS, ("rgb.jpg",), {"image_size": 8}),  # as many images to choose the epoch by as val/ has
        ({"train": 24, "val": 9}, ("rgb.jpg",), {"train_limit": 7, "validation": 4, "image_size": 8}),
        (PARTS, ("deep.png", "grey.jpg"), {"image_size": 8}),
        (PARTS, ("rgb.jpg",), {"image_size": 8, "on_bad": "skip"}),
    ],
)
@pytest.mark.filterwarnings("ignore:1 of 46 images")
def test_a_folder_is_seen_as_in_training(
    parts: dict[str, int], kinds: tuple[str, ...], settings: dict[str, Any], tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "pictures", parts, kinds=kinds)
    if settings.get("on_bad") == "skip":
        (root / "train/a/0.jpg").write_bytes(b"")
    config = DataConfig(path=root, cache=tmp_path / "cache", **settings)
    found, there = image_facts(config), data.load(config)
    assert (found.validation, found.test, found.classes) == (len(there.validation), len(there.test), 3)
    assert found.train == len(there.train) + there.skipped  # only decoding tells which are bad
    assert (found.channels, found.size) == (there.channels, there.image_size)


def test_where_no_image_can_be_read_there_are_no_facts(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pictures", PARTS, kinds=("rgb.jpg",))
    for path in root.glob("train/*/*"):
        path.write_bytes(b"")
    config = DataConfig(path=root, cache=tmp_path / "cache", image_size=8)
    with pytest.raises(InputError, match=r"train/a/0000\.jpg cannot be read"):
        image_facts(config)
    with pytest.raises(InputError, match="no training image can be read; replace the files"):
        image_facts(replace(config, on_bad="skip"))


def test_images_of_a_folder_have_the_size_at_which_they_are_seen(tmp_path: Path) -> None:
    """A camera that lay on its side wrote the sides the other way round."""
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.new("RGB", (30, 20)).save(tmp_path / part / label / "0.jpg", exif=exif)
    config = DataConfig(path=tmp_path, validation=0, cache=tmp_path / "cache")
    assert image_facts(config).size == data.load(config).image_size == (30, 20)


def test_the_classes_of_a_subset_are_counted(tmp_path: Path) -> None:
    classes = (*imagenet100(), "n99999999")
    root = write_folder(tmp_path / "imagenet", {"train": 202, "val": 101}, kinds=("pixel.png",), classes=classes)
    found = image_facts(DataConfig(path=root, subset="imagenet100", validation=50))
    assert (found.train, found.validation, found.test, found.classes) == (150, 50, 100, 100)
    assert found.source.startswith(f"counted in {root}")


@pytest.mark.parametrize(("name", "value"), [("images", 1), ("classes", 1), ("image_size", 0)])
def test_numbers_that_cannot_be(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"--{name.replace('_', '-')} {value}: expected at least {value + 1}\."):
        image_facts(DataConfig(name="cifar10"), **{name: value})


def test_a_validation_that_takes_all_images_is_refused() -> None:
    with pytest.raises(InputError, match="leaves no training images"):
        image_facts(DataConfig(name="mnist", validation=60_000))


def test_sizes_that_grow_over_the_run() -> None:
    images = image_facts(DataConfig(name="cifar10"))
    growing = streaming(image_size=32, progressive_sizes=(16, 24, 36), progressive_from=(0.0, 0.4, 0.8))
    assert training_sizes(growing, images, 5) == [(16, 16), (16, 16), (24, 24), (24, 24), (36, 36)]
    assert training_sizes(DataConfig(name="cifar10"), images, 2) == [(32, 32)] * 2
    oblong = replace(images, size=(20, 30))
    assert training_sizes(DataConfig(progressive_sizes=(10,), progressive_from=(0.0,)), oblong, 1) == [(10, 15)]


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (5, 3)), (3, (3, 1)), (1, (1, 3))])
def test_made_up_images_are_read_as_they_were_meant(channels: int, size: tuple[int, int], tmp_path: Path) -> None:
    images = ImageFacts(train=9, validation=0, test=0, channels=channels, size=size, classes=1000, source="")
    config = made_up(tmp_path, images, size, 4, DataConfig(crop_padding=1, flip=True))
    found = data.load(config)
    assert (len(found.train), found.channels, found.image_size) == (8, channels, size)
    assert len(found.classes) == 1000
    assert (config.crop_padding, config.flip) == (1, True)
    # streamed images are augmented off the training thread, which is no part of a step
    assert not made_up(tmp_path, images, size, 4, streaming(image_size=8, flip=True)).flip


def test_imagenets_recipes_stream_at_the_sizes_of_fbfs_phases() -> None:
    for name in ("nuat-wa-imagenet-resnet50", "fbf-imagenet-resnet50"):
        config = RECIPES[name]()
        assert config.data.loading == "stream"
        found = training_sizes(config.data, image_facts(config.data), config.epochs)
        assert found == [(128, 128)] * 6 + [(224, 224)] * 6 + [(288, 288)] * 3
    smaller = RECIPES["nuat-wa-imagenet100-resnet18"]().data
    assert smaller.loading == "stream"
    assert image_facts(smaller).classes == 100
