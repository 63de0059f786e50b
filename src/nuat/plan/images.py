"""The images that a plan is made for: how many, of which size and classes. None of them need be there."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nuat import data
from nuat.config import DataConfig
from nuat.data import folders, shards
from nuat.data.augmentation import resize, resized_shape
from nuat.data.decoding import decode
from nuat.data.images import Dataset, ImageSet
from nuat.data.samples import Parts
from nuat.errors import InputError

_SAMPLED = 200
"""Images of each part of a folder that are looked at, at most about, to know their channels."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """What a plan must know of the images."""

    train: int
    """Images of an epoch."""
    validation: int
    """Images of the validation that follows it."""
    test: int
    """Images of the evaluation after training."""
    channels: int
    size: tuple[int, int]
    """Height and width [pixels] of evaluations, and of training unless its sizes grow over the run."""
    classes: int
    source: str
    """How these numbers are known, for people."""
    file_bytes: float | None = None
    """Mean bytes of an image's file; none: not known."""

    @property
    def pixels(self) -> int:
        """Bytes of an image as uint8."""
        return self.channels * self.size[0] * self.size[1]

    @property
    def all(self) -> int:
        """Images of the three parts."""
        return self.train + self.validation + self.test


def find(config: DataConfig, *, images: int | None, classes: int | None, image_size: int | None) -> Images:
    """Return what is known of the images that the settings name, with the given numbers in place of it.

    An .npz and mnist-sample are read; of a folder the files are counted (of tar shards nothing is known); data sets by
    name, and folders that are not there but are called like one, have known sizes.

    Raises:
        InputError: a number is below 1, or one is neither known nor given.
    """
    for name, value in (("images", images), ("classes", classes), ("image_size", image_size)):
        least = 1 if name == "image_size" else 2
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected at least {least}.")
    found = _look(config)
    if found is None:
        missing = [
            option
            for option, value in (
                ("--images", images), ("--classes", classes), ("--image-size", image_size or config.image_size)
            )
            if value is None
        ]  # fmt: skip
        if missing:
            raise InputError(
                f"data.path={config.path}: its images are not known; give {', '.join(missing)}, or --data.path of an "
                ".npz file or an image folder that is there."
            )
        found = Images(
            train=images or 0, validation=config.validation, test=0, channels=3, size=(0, 0), classes=classes or 0,
            source="as given, 3 channels",
        )  # fmt: skip
    side = image_size or config.image_size
    given = [f"{value} {name}" for name, value in (("images", images), ("classes", classes)) if value is not None]
    given += [f"{image_size} pixels"] if image_size is not None else []
    return Images(
        train=images if images is not None else found.train,
        validation=found.validation,
        test=found.test,
        channels=found.channels,
        size=found.size if side is None else (side, side),
        classes=classes or found.classes,
        source=f"{found.source}; given: {', '.join(given)}" if given else found.source,
        file_bytes=found.file_bytes,
    )


def classes_of(config: DataConfig) -> int | None:
    """Return the classes of the images that the settings name; none where they are not known."""
    found = _look(config)
    return None if found is None else found.classes


def sizes(config: DataConfig, images: Images, epochs: int) -> list[tuple[int, int]]:
    """Return the size that each epoch trains at: ``images.size``, but where the settings let it grow over the run."""
    sides = (config.size_at(epoch, epochs) for epoch in range(epochs))
    return [images.size if side is None else resized_shape(*images.size, side) for side in sides]


def streamed(config: DataConfig) -> bool:
    """Return whether the images are read from files as they are needed, rather than lying on the device."""
    return config.loading == "stream"


def made_up(folder: Path, images: Images, size: tuple[int, int], batch: int, config: DataConfig) -> DataConfig:
    """Write two batches of noise of the images' shape and classes, and return the settings to read them.

    They are augmented, and resized to ``size`` (height and width in pixels) of a phase, where the run does that on its
    own device, which is where it has the images in memory; see ``arrived`` for those that are streamed. The same images
    are the test set, which keeps the size of evaluations.
    """
    draw = np.random.default_rng(0)
    count = 2 * batch
    # channels last, which the reader of such files takes for just that whatever the sides are
    x = draw.integers(0, 256, (count, *images.size, images.channels), dtype=np.uint8)
    y = np.arange(count) % images.classes
    path = folder / "made-up.npz"
    names = np.array([f"class {label}" for label in range(images.classes)])
    np.savez(path, allow_pickle=False, x_train=x, y_train=y, x_test=x, y_test=y, classes=names)
    # a phase of its own even where they are streamed: the run asks the network whether it takes that size
    phase = () if size == images.size else (min(size),)
    made = DataConfig(path=path, validation=0, progressive_sizes=phase, progressive_from=(0.0,) * len(phase))
    if streamed(config):
        return made
    return replace(made, crop_padding=config.crop_padding, crop_scale=config.crop_scale, flip=config.flip)


def arrived(dataset: Dataset, size: tuple[int, int]) -> Dataset:
    """Return made-up images as a run is given them that streams them: a worker has resized those of the training."""
    every = dataset.train.select(torch.arange(len(dataset.train)))
    return replace(dataset, train=ImageSet(resize(every.images, min(size)), every.labels))


def _look(config: DataConfig) -> Images | None:
    """Return what the settings alone tell of the images, if anything."""
    path = config.path.expanduser() if config.path is not None else None
    if path is not None and path.is_dir():
        # how many images shards hold, only reading them tells
        return None if shards.are_shards(path) else _folder(path, config)
    if (path is not None and path.is_file()) or (path is None and config.name == "mnist-sample"):
        dataset = data.load(config)
        return Images(
            train=len(dataset.train),
            validation=len(dataset.validation),
            test=len(dataset.test),
            channels=dataset.channels,
            size=dataset.image_size,
            classes=len(dataset.classes),
            source=f"read from {dataset.source}",
        )
    name = config.subset or (config.name if path is None else path.name)
    if path is None and config.subset is None:
        data.check_name(name)
    if name not in data.SETS:
        return None
    known = data.SETS[name]
    return Images(
        train=_limited(_left(known.train, config), config),
        validation=config.validation,
        test=known.test,
        channels=known.channels,
        size=(known.size, known.size),
        classes=known.classes,
        source=f"sizes of {name}{known.note}, no image of it read",
    )


def _left(train: int, config: DataConfig) -> int:
    """Return the training images that the held out ones leave."""
    train -= config.validation
    if train < 2:
        raise InputError(f"data.validation={config.validation}: leaves no training images; hold out fewer.")
    return train


def _limited(train: int, config: DataConfig) -> int:
    """Return the training images that are taken, of those that there are after the split."""
    return train if config.train_limit is None else min(train, config.train_limit)


def _folder(path: Path, config: DataConfig) -> Images:
    """Return what an image folder tells without being decoded, but for a few of its images."""
    parts = folders.scan(path, config.subset)
    train, own = parts.train, parts.validation
    channels, size, name = _seen(parts, config)
    return Images(
        train=_limited(_left(len(train), config) if own is None else len(train), config),
        validation=config.validation if own is None else min(config.validation, len(own)),
        test=len(parts.test),
        channels=channels,
        size=size,
        classes=len(parts.classes),
        source=f"counted in {path}" + ("" if config.image_size else f", size of {name}"),
        file_bytes=float(train.sizes.mean()),
    )


def _seen(parts: Parts, config: DataConfig) -> tuple[int, tuple[int, int], str]:
    """Return the channels of the images, looking at some of each part; height, width and name of the first.

    Training looks at all of them, and takes them for grey only where all are.
    """
    first: tuple[tuple[int, int], str] | None = None
    channels = 1
    for part in parts.all:
        for i in range(0, len(part), max(1, len(part) // _SAMPLED)):
            try:
                pixels = decode(part.read(i), part.name(i), None)
            except InputError:
                if config.on_bad == "refuse":
                    raise
                continue
            channels = max(channels, pixels.shape[0])
            first = first or ((pixels.shape[1], pixels.shape[2]), Path(part.name(i)).name)
            if channels == 3:  # one that has colours decides for all
                return channels, *first
    if first is None:
        raise InputError(f"{parts.description}: none of the images that were tried can be read; replace the files.")
    return channels, *first
